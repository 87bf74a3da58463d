"""Stage module: a part of a Q-network with its slices of both networks, gradient and optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actorq.learning.agent import Agent
from actorq.learning.algorithms import Algorithm, Outputs
from actorq.learning.distributed.codecs import read_only_tensor
from actorq.learning.distributed.parameter_shard import square_norm
from actorq.learning.distributed.sharding import shard_slices
from actorq.learning.networks.factory import make_layers
from actorq.learning.networks.flat import FlatParameters
from actorq.learning.networks.module import NetworkModule
from actorq.learning.networks.observations import observation_scale
from actorq.learning.networks.spec import TaskSpaces
from actorq.learning.optimizers import State, make_optimizer
from actorq.learning.staging import StagedBatch
from actorq.learning.target import TargetNetwork

from .activations import Activations, Outcomes, Tensors
from .partition import StagePart
from .stage_passes import make_segment_pass


class StageModule:
    """Holds its layers' parameters, the target's, their gradient, and the optimizer's moments.

    Micro-batches pass forward, each under a number of its own, and later backward, in any order; their
    gradients add up until `step`. Called by one thread at a time.
    """

    def __init__(
        self, agent: Agent, tasks: Sequence[TaskSpaces], seed: int, part: StagePart, device: torch.device
    ) -> None:
        """Raises ValueError as `make_layers` does."""
        layers = make_part(agent, tasks, seed, part)
        self.online = FlatParameters(layers, getattr(torch, agent.dtype), device)
        self.target = TargetNetwork(agent, self.online)
        self.updates = 0
        self._optimizer = make_optimizer(agent, self.online.vector, self.online.gradient)
        self._layers, self._target_layers = layers, self.target.parameters.module
        self._pass = make_segment_pass(layers, inputs=part.begin > 0)
        self._first = part.begin == 0
        self._scales = [observation_scale(task.dtype) for task in tasks]
        self._in_flight: dict[int, list[Tensor]] = {}
        self._kept: dict[int, int] = {}
        """Bytes kept for each micro-batch."""
        self._begun = False
        """Whether `gradient` has a part of the next update already."""

    @torch.no_grad()
    def evaluate(self, inputs: Tensors, rows: Sequence[int]) -> Tensors:
        """Outputs of the online network. `rows`: number of each task's rows."""
        return _arrays(self._layers(self._tensors(inputs), rows))

    @torch.no_grad()
    def forward(self, number: int, inputs: Activations, rows: Sequence[int]) -> Activations:
        """The outputs of all streams; keeps what `backward` needs."""
        now, later, *targets = map(self._tensors, inputs.streams)
        passed = self._pass.forward(now, later, rows)
        self._in_flight[number] = passed.held
        self._kept[number] = _memory(passed.kept, without=self.online.vector)
        target = [self._target_layers(tensors, rows) if tensors else [] for tensors in targets]
        return Activations(*map(_arrays, (passed.now, passed.later, *target)))

    @torch.no_grad()
    def backward(self, number: int, gradients: Tensors) -> Tensors:
        """Add to the gradient; returns that of the inputs, empty for the network's first part.

        Raises KeyError for a number that has not passed forward, or already has passed backward.
        """
        held = self._in_flight.pop(number)
        del self._kept[number]
        if not self._begun:
            self.online.gradient.zero_()
            self._begun = True
        return _arrays(self._pass.backward(held, _tensors(gradients, self.online.vector)))

    def square_norm(self) -> float:
        """Squared norm of the gradient so far."""
        return square_norm(self.online.gradient)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update, with `factor` times the gradient."""
        if factor != 1.0:
            self.online.gradient.mul_(factor)
        self._optimizer.step()
        self._begun = False
        self.updates += 1
        self.target.follow(self.updates)

    @property
    def in_flight_bytes(self) -> int:
        """Bytes kept by micro-batches between their forward and backward passes."""
        return sum(self._kept.values())

    def _tensors(self, arrays: Tensors) -> list[Tensor]:
        tensors = _tensors(arrays, self.online.vector)
        if not (self._first and tensors):
            return tensors
        pairs = zip(tensors, self._scales, strict=True)
        return [tensor if scale == 1.0 else tensor * scale for tensor, scale in pairs]

    def state(self) -> State:
        """A copy of the state, between two updates."""
        return {
            "updates": self.updates,
            "parameters": self.online.read(),
            "target": self.target.state(),
            "optimizer": self._optimizer.state(),
        }

    def load_state(self, state: State) -> None:
        """Restore a `state`. Raises ValueError if it is of another size."""
        self.online.write(state["parameters"])
        self.target.load_state(state["target"])
        self._optimizer.load_state(state["optimizer"])
        self.updates = state["updates"]


class HeadLoss(NamedTuple):
    """The loss of a micro-batch."""

    loss: float
    """Its share of the mean over the batch."""
    priorities: NDArray[np.float32]
    """[rows of all tasks]"""
    gradients: Tensors
    """Of the outputs for s_t, one for each task."""


def head_loss(
    algorithm: Algorithm, outputs: Activations, outcomes: Sequence[Outcomes], size: int, like: Tensor
) -> HeadLoss:
    """The loss of the last part's outputs for a micro-batch of a batch of `size`; computed where `like`
    is."""
    none: list[Tensor | None] = [None] * len(outcomes)
    streams = [_tensors(stream, like) or none for stream in outputs.streams]
    found = []
    for evaluated, outcome in zip(zip(*streams, strict=True), outcomes, strict=True):
        returns, discounts, weights = _tensors((outcome.returns, outcome.discounts, outcome.weights), like)
        actions = read_only_tensor(outcome.actions).to(like.device).unsqueeze(1)
        now, *others = evaluated
        assert now is not None
        batch = StagedBatch(now, actions, returns, discounts, weights, None)
        found.append(algorithm.batch_loss(Outputs(now, *others), batch, size))
    priorities = np.concatenate([each.priorities.to(torch.float32).numpy(force=True) for each in found])
    loss = sum(float(each.loss) for each in found) / size
    return HeadLoss(loss, priorities, tuple(_array(each.output_gradient) for each in found))


def make_part(agent: Agent, tasks: Sequence[TaskSpaces], seed: int, part: StagePart) -> NetworkModule:
    """Its layers, with the initial weights that they have in the whole network of this seed."""
    layers = make_layers(agent, tasks, seed, part.begin, part.end)
    if part.columns > 1:
        layers.trunk = nn.Sequential(*(_narrowed(module, part) for module in layers.trunk))
    return layers


def _narrowed(module: nn.Module, part: StagePart) -> nn.Module:
    """Some columns of a product's outputs, which are rows of its weights."""
    if not isinstance(module, nn.Linear):
        return module
    rows = shard_slices(module.out_features, part.columns)[part.column]
    narrow = nn.Linear(module.in_features, rows.stop - rows.start, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        narrow.weight.copy_(module.weight[rows])
        narrow.bias.copy_(module.bias[rows])
    return narrow


def _tensors(arrays: Tensors, like: Tensor) -> list[Tensor]:
    """Tensors on the device and of the dtype of `like`; never to be written."""
    return [read_only_tensor(array).to(like.device).to(like.dtype) for array in arrays]


def _arrays(tensors: Sequence[Tensor]) -> Tensors:
    return tuple(map(_array, tensors))


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.numpy(force=True)


def _memory(tensors: Sequence[Tensor], *, without: Tensor) -> int:
    """Bytes of the memory of these tensors, including whatever views keep alive."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    storages.pop(without.untyped_storage().data_ptr(), None)
    return sum(storages.values())
