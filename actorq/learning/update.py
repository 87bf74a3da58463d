"""The learning rule: from parameters and a batch to a gradient, a loss and priorities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .agent import Agent
from .algorithms import BatchLoss, Outputs
from .compiling import Compile, begin_step
from .networks.backends import MLPBackend, make_backend
from .networks.flat import FlatParameters
from .popart import PopArt
from .staging import BatchStaging, StagedBatch, TransitionBatch


class UpdateResult(NamedTuple):
    """What one call of the rule found, on the CPU."""

    loss: float
    """Mean over the batch of weight * loss."""
    priorities: NDArray[np.float32]
    """[B] the new priorities, not weighted."""


class LearningRule:
    """The update rule of all learners that have the whole network; the algorithm of `[agent]` has the loss.

    The loss is the mean over the batch. The rule changes no parameters: it overwrites `online.gradient` and
    leaves the step to an optimizer. The backward pass begins at the outputs' gradient, which the algorithm
    has in closed form or by autograd over the outputs alone.
    """

    def __init__(
        self,
        agent: Agent,
        online: FlatParameters,
        target: FlatParameters,
        compile: Compile = "off",
        popart: PopArt | None = None,
    ) -> None:
        """With `popart` the loss is that of its normalized values; priorities are in units of reward."""
        self._algorithm = agent.make_algorithm()
        self._needs = self._algorithm.needs
        self._popart = popart
        self._compile = compile
        self._online = make_backend(online, compile)
        self._target = make_backend(target, compile)
        # The faster of the two; but autograd refuses to keep what was made in it.
        fast = isinstance(self._online, MLPBackend) and not self._algorithm.uses_autograd
        self._without_graph = torch.inference_mode if fast else torch.no_grad
        self._stagings: list[BatchStaging] = []
        self._dtype, self._device = online.dtype, online.device

    def __call__(self, *batches: TransitionBatch | StagedBatch | None) -> UpdateResult:
        """Write the gradient of the batch's loss into `online.gradient`.

        A network for several tasks takes a batch of each, None for one that has no transitions; the loss is
        the mean over all of them, and the priorities are one task's after another's. Returns once the device
        is done. Raises TypeError, ValueError or RuntimeError for arrays that are no transitions of this
        network (such as an action it does not have).
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
        outputs = self._evaluate(batches, sizes)
        found = [
            None if batch is None else self._loss(task, outputs[task], batch, sum(sizes))
            for task, batch in enumerate(batches)
        ]
        self._online.backward([None if each is None else each.output_gradient for each in found])
        present = [each for each in found if each is not None]
        alone = len(present) == 1
        total = present[0].loss if alone else torch.stack([each.loss for each in present]).sum()
        priorities = present[0].priorities if alone else torch.cat([each.priorities for each in present])
        return UpdateResult(float(total) / sum(sizes), priorities.to(torch.float32).numpy(force=True))

    def _loss(self, task: int, outputs: Outputs, batch: StagedBatch, size: int) -> BatchLoss:
        if self._popart is None:
            return self._algorithm.batch_loss(outputs, batch, size)
        found = self._algorithm.batch_loss(outputs, self._popart.normalized(task, batch), size)
        return self._popart.noted(task, found)

    def _evaluate(self, batches: Sequence[StagedBatch | None], sizes: Sequence[int]) -> list[Outputs]:
        """The outputs [B, outputs] of each task; the online network waits for the backward pass.

        Where the algorithm needs s_t and s_{t+n} of a network, that sees them together, [2 B]: one larger
        product costs less than two.
        """
        needs = self._needs
        both = [None if batch is None else batch.observations for batch in batches]
        now = [None if each is None else each[:rows] for each, rows in zip(both, sizes, strict=True)]
        later = [None if each is None else each[rows:] for each, rows in zip(both, sizes, strict=True)]
        online = self._online.forward(both if "online_next" in needs else now, sizes)
        target_next = target_now = cast("Sequence[Tensor | None]", [None] * len(batches))
        if needs >= {"target_next", "target_now"}:
            evaluated = self._target.evaluate(both)
            target_now = [each[:rows] for each, rows in zip(evaluated, sizes, strict=True)]
            target_next = [each[rows:] for each, rows in zip(evaluated, sizes, strict=True)]
        elif "target_next" in needs:
            target_next = self._target.evaluate(later)
        elif "target_now" in needs:
            target_now = self._target.evaluate(now)
        return [
            Outputs(mine[:rows], mine[rows:] if "online_next" in needs else None, after, before)
            for mine, rows, after, before in zip(online, sizes, target_next, target_now, strict=True)
        ]
