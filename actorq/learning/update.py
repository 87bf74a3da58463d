"""The learning rule: from parameters and a batch to a gradient, a loss and TD errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .agent import Agent
from .algorithms.dqn import LossOutput, QLoss
from .compiling import Compile, begin_step
from .networks.backends import MLPBackend, make_backend
from .networks.flat import FlatParameters
from .popart import PopArt
from .staging import BatchStaging, StagedBatch, TransitionBatch


class UpdateResult(NamedTuple):
    """What one call of the rule found, on the CPU."""

    loss: float
    """Mean over the batch of weight * loss(TD error)."""
    td_errors: NDArray[np.float32]
    """[B] target - Q(s_t, a_t), not weighted; their absolute values are the new priorities."""


class LearningRule:
    """Deep Q-learning, used alike by a lone learner and a gradient worker; `QLoss` says what is minimised.

    The loss is the mean over the batch. The rule changes no parameters: it overwrites `online.gradient` and
    leaves the step to an optimizer. It finds dL/dQ in closed form and sends that back through the network, so
    only the network itself needs derivatives.
    """

    def __init__(
        self,
        agent: Agent,
        online: FlatParameters,
        target: FlatParameters,
        compile: Compile = "off",
        popart: PopArt | None = None,
    ) -> None:
        """With `popart` the loss is that of its normalized values; TD errors are in units of reward."""
        self._q_loss = QLoss(agent)
        self._popart = popart
        self._compile = compile
        self._online = make_backend(online, compile)
        self._target = make_backend(target, compile)
        # The faster of the two; but autograd refuses to keep what was made in it.
        self._without_graph = torch.inference_mode if isinstance(self._online, MLPBackend) else torch.no_grad
        self._stagings: list[BatchStaging] = []
        self._dtype, self._device = online.dtype, online.device

    def __call__(self, *batches: TransitionBatch | StagedBatch | None) -> UpdateResult:
        """Write the gradient of the batch's loss into `online.gradient`.

        A network for several tasks takes a batch of each, None for one that has no transitions; the loss is
        the mean over all of them, and so are TD errors one task's after another's. Returns once the device is
        done. Raises TypeError, ValueError or RuntimeError for arrays that are no transitions of this network
        (such as an action it does not have).
        """
        begin_step(self._compile)
        with self._without_graph():
            return self._learn([self._staged(task, batch) for task, batch in enumerate(batches)])

    def _staged(self, task: int, batch: TransitionBatch | StagedBatch | None) -> StagedBatch | None:
        if batch is None:
            return None
        if not isinstance(batch, StagedBatch):
            while len(self._stagings) <= task:  # each task's batches have shapes of their own
                self._stagings.append(BatchStaging(self._dtype, self._device))
            batch = self._stagings[task](batch)
        batch.wait()
        return batch

    def _learn(self, batches: Sequence[StagedBatch | None]) -> UpdateResult:
        sizes = [0 if batch is None else len(batch.actions) for batch in batches]
        online, target = self._q_values(batches, sizes)
        slopes: list[LossOutput | None] = []
        parts = zip(batches, sizes, online, target, strict=True)
        for task, (batch, rows, q_values, later) in enumerate(parts):
            if batch is None:
                slopes.append(None)
                continue
            if self._popart is not None:
                batch = self._popart.normalized(task, batch)
            next_values = self._q_loss.next_values(later, q_values[rows:] if self._q_loss.double else None)
            slope = self._q_loss(q_values[:rows], next_values, batch, sum(sizes))
            slopes.append(slope if self._popart is None else self._popart.noted(task, slope))
        self._online.backward([None if slope is None else slope.output_gradient for slope in slopes])
        losses = [slope.losses for slope in slopes if slope is not None]
        td_errors = [slope.td_errors for slope in slopes if slope is not None]
        alone = len(losses) == 1
        loss = float(losses[0] if alone else torch.stack(losses).sum()) / sum(sizes)
        found = td_errors[0] if alone else torch.cat(td_errors)
        return UpdateResult(loss, found.to(torch.float32).numpy(force=True))

    def _q_values(
        self, batches: Sequence[StagedBatch | None], sizes: Sequence[int]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """The online network's, waiting for the backward pass, and the target's of s_{t+n}.

        With double Q-learning the online one sees s_t and s_{t+n} together, [2 B]: one larger product costs
        less than two.
        """
        both = [None if batch is None else batch.observations for batch in batches]
        now = [None if it is None else it[:rows] for it, rows in zip(both, sizes, strict=True)]
        later = [None if it is None else it[rows:] for it, rows in zip(both, sizes, strict=True)]
        target = self._target.evaluate(later)
        return self._online.forward(both if self._q_loss.double else now, sizes), target
