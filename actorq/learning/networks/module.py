"""Torch modules of declared networks, with initial weights that depend on the seed alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from actorq.learning.agent import Agent

from .declaration import Conv, Head, LayerGroup, LayerNorm, Linear, PlacedLayer, Relu
from .spec import TaskSpaces, shared_from, task_groups


class NetworkModule(nn.Module):
    """Consecutive layers of a network for one task or several, parameters in the order of the flat vector.

    For one task all layers are the trunk. Of several tasks each has an encoder, the layers up to the first
    hidden one, and a head; the trunk is what they share. A stage of a pipeline has some of the layers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList()
        """One for each of several tasks."""
        self.trunk = nn.Sequential()
        self.heads = nn.ModuleList()
        """One for each of several tasks."""

    def forward(self, inputs: Sequence[Tensor | None], rows: Sequence[int]) -> list[Tensor]:
        """Map one tensor [rows, …] to one; encoders take, and heads return, one for each task.

        `rows`: number of each task's rows. None, or a tensor without rows, for a task without observations.
        """
        if self.encoders:
            pairs = zip(self.encoders, inputs, strict=True)
            inputs = [torch.cat([encoder(seen) for encoder, seen in pairs if seen is not None and len(seen)])]
        (features,) = inputs
        features = self.trunk(features)
        if not self.heads:
            return [features]
        parts = features.split(list(rows))
        return [head(part) for head, part in zip(self.heads, parts, strict=True)]


def make_network_module(
    agent: Agent, tasks: Sequence[TaskSpaces], seed: int, begin: int = 0, end: int | None = None
) -> NetworkModule:
    """The layer groups from `begin` to before `end` of a declared network, see `layer_groups`; all by
    default.

    On the CPU, in float32, with the initial weights that they have in the whole network of this seed: the
    other layers are made too, as weights are drawn in turn, but one at a time. Raises ValueError for tasks
    that can't share a network and for layers that don't fit their spaces.
    """
    network, generator = NetworkModule(), torch.Generator().manual_seed(seed)
    for number, task in enumerate(tasks):
        groups = task_groups(agent, task)
        shared = shared_from(groups) if len(tasks) > 1 else 0
        encoder, head = nn.Sequential(), nn.Sequential()
        for index, modules in enumerate(_draw(groups, generator)):
            position = max(index - shared + 1, 0) if shared else index
            if position < begin or (end is not None and position >= end):
                continue
            if index < shared:
                encoder.extend(modules)
            elif shared and index == len(groups) - 1:
                head.extend(modules)
            elif number == 0:
                network.trunk.extend(modules)
        network.encoders.extend([encoder] if encoder else [])
        network.heads.extend([head] if head else [])
    return network


def _draw(groups: Sequence[LayerGroup], generator: torch.Generator) -> Iterator[list[nn.Module]]:
    """The modules of each group, with weights initialised as torch's own layers are.

    From a generator of its own: stages of one process may draw at the same time.
    """
    for group in groups:
        with torch.device("meta"):
            modules = [module for placed in group.layers for module in make_modules(placed)]
        for module in modules:
            module.to_empty(device="cpu")
            for part in module.modules():
                _initialise(part, generator)
        yield modules


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Initialize as `reset_parameters` of each layer type does."""
    if isinstance(module, nn.LayerNorm):
        module.reset_parameters()
    elif isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
        assert module.bias is not None
        bound = 1 / math.sqrt(module.weight[0].numel())
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def make_modules(placed: PlacedLayer) -> list[nn.Module]:
    """The modules of one layer, one after the other."""
    layer, inputs, outputs = placed.layer, placed.inputs, placed.outputs
    if isinstance(layer, Conv):
        return [nn.Conv2d(inputs[0], layer.filters, layer.kernel, layer.stride, layer.padding)]
    if isinstance(layer, Linear):
        return [nn.Flatten(), nn.Linear(inputs[0], layer.width)]
    if isinstance(layer, Relu):
        return [nn.ReLU()]
    if isinstance(layer, LayerNorm):
        return [nn.LayerNorm(inputs)]
    if isinstance(layer, Head):
        return (
            [DuelingHead(layer, inputs[0])]
            if layer.dueling
            else [nn.Flatten(), nn.Linear(inputs[0], outputs[0])]
        )
    return [ResidualBlock([module for inner in placed.inner for module in make_modules(inner)])]


class DuelingHead(nn.Module):
    """Both streams of a dueling network, see `Head`: from features [N, F] to outputs [N, actions *
    per_action]."""

    def __init__(self, head: Head, features: int) -> None:
        super().__init__()
        self.value = nn.Linear(features // 2, head.per_action)
        self.advantage = nn.Linear(features // 2, head.actions * head.per_action)
        self._head = head

    def forward(self, features: Tensor) -> Tensor:
        value_stream, advantage_stream = features.flatten(1).chunk(2, dim=1)
        value: Tensor = self.value(value_stream)
        advantages: Tensor = self.advantage(advantage_stream)
        if self._head.per_action == 1:
            return value + advantages - advantages.mean(dim=1, keepdim=True)
        advantages = advantages.view(-1, self._head.actions, self._head.per_action)
        return (value.unsqueeze(1) + advantages - advantages.mean(dim=1, keepdim=True)).flatten(1)


class ResidualBlock(nn.Module):
    """x + f(x), see `Residual`."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = inputs + self.layers(inputs).view_as(inputs)
        return outputs


def dense_layers(module: nn.Module) -> list[tuple[nn.Linear, bool]] | None:
    """The fully connected layers of a plain sequence of them, each with whether a ReLU follows; else None."""
    if type(module) is not nn.Sequential or not module or type(module[0]) is not nn.Flatten:
        return None
    found: list[tuple[nn.Linear, bool]] = []
    for each in module:
        if type(each) is nn.Linear and each.bias is not None:
            found.append((each, False))
        elif type(each) is nn.ReLU and found and not found[-1][1]:
            found[-1] = (found[-1][0], True)
        elif type(each) is not nn.Flatten:
            return None
    return found or None
