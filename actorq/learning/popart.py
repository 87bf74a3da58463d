"""PopArt: what a task's head learns towards is normalized, and what it says of Q-values stays as it was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .agent import Agent
from .algorithms import BatchLoss
from .networks.declaration import LayerGroup, size
from .networks.flat import FlatParameters
from .networks.spec import TaskSpaces, task_groups
from .networks.task_layout import TaskLayout
from .staging import StagedBatch

BETA = 3e-4
"""Step size of the moving averages, per update (Hessel et al. 2018, arXiv 1809.04474, table 2)."""

LEAST, MOST = 1e-4, 1e6
"""Bounds of the scale, as there."""


class Statistics(NamedTuple):
    """Of what a task's Q-values are learned towards, in units of reward."""

    mean: float = 0.0
    square: float = 1.0
    """Of the targets squared, their mean."""

    @property
    def scale(self) -> float:
        variance = max(self.square - self.mean**2, 0.0)
        return min(max(math.sqrt(variance), LEAST), MOST)

    def moved(self, targets: Tensor) -> Statistics:
        """Towards those of a batch of targets."""
        values = targets.to(torch.float64)
        mean, square = float(values.mean()), float(values.square().mean())
        return Statistics(self.mean + BETA * (mean - self.mean), self.square + BETA * (square - self.square))


class PopArt:
    """Adaptive normalization of Q-values (van Hasselt et al. 2016, arXiv 1602.07714), for each task by itself
    (Hessel et al. 2018, arXiv 1809.04474).

    The heads of `adaptive` tasks say normalized values, (Q - mean) / scale, in the online and in the target
    network alike, and are changed whenever mean and scale move so that Q stays the same. So each task pulls
    at the shared layers alike, whatever its rewards are counted in. Whoever is outside knows nothing of it:
    `read` and `write` give and take the parameters of a plain Q-network.

    A batch moves the statistics after its update, not before as in algorithm 1. The optimizer's moments are
    left as they are: gradients are those of normalized values, before and after. With prioritized replay the
    statistics are those of what was drawn. Without adaptive tasks it does nothing.
    """

    def __init__(
        self,
        agent: Agent,
        spaces: Sequence[TaskSpaces],
        adaptive: Mapping[int, str],
        online: FlatParameters,
        target: FlatParameters,
    ) -> None:
        """`adaptive`: tasks by number, and what to call them in `state`. Raises ValueError for a custom
        network, whose heads nobody knows."""
        self._names = adaptive
        self._heads = _heads(agent, spaces) if adaptive else []
        self._statistics = {task: Statistics() for task in adaptive}
        self._targets: dict[int, Tensor] = {}
        self._both = (online, target)

    def normalized(self, task: int, batch: StagedBatch) -> StagedBatch:
        """With returns such that R + D * normalized(Q') is the normalized target."""
        if task not in self._statistics:
            return batch
        its = self._statistics[task]
        return batch._replace(returns=(batch.returns + (batch.discounts - 1.0) * its.mean) / its.scale)

    def noted(self, task: int, found: BatchLoss) -> BatchLoss:
        """The loss of a normalized batch with its priorities in units of reward; `move` will use its
        targets."""
        if task not in self._statistics:
            return found
        statistics = self._statistics[task]
        self._targets[task] = found.targets * statistics.scale + statistics.mean
        return found._replace(priorities=found.priorities * statistics.scale)

    @torch.no_grad()
    def move(self) -> None:
        """Move the statistics towards what was noted, and change the heads so that no Q-value does."""
        for task, targets in self._targets.items():
            before = self._statistics[task]
            its = self._statistics[task] = before.moved(targets)
            for network in self._both:
                shift = (before.mean - its.mean) / its.scale
                self._change(network.vector, task, before.scale / its.scale, shift)
        self._targets.clear()

    def scales(self) -> dict[str, float]:
        """Of each adaptive task, by name."""
        return {self._names[task]: its.scale for task, its in self._statistics.items()}

    def read(self, parameters: FlatParameters) -> NDArray[Any]:
        """A copy of the online or target parameters, [size], as of a plain Q-network."""
        vector = parameters.read()
        for task, its in self._statistics.items():
            self._change(vector, task, its.scale, its.mean)
        return vector

    def write(self, parameters: FlatParameters, vector: NDArray[Any]) -> None:
        """Set them from a plain Q-network's vector [size]. Raises ValueError for another size."""
        vector = np.array(vector)
        if vector.shape == (parameters.size,):
            for task, its in self._statistics.items():
                self._change(vector, task, 1.0 / its.scale, -its.mean / its.scale)
        parameters.write(vector)

    def _change(self, vector: Any, task: int, factor: float, shift: float) -> None:
        """Have a head say factor * what it says + shift."""
        head, offset = self._heads[task]
        vector[head] *= factor
        vector[offset] += shift

    def state(self) -> dict[str, Any]:
        """By the task's name."""
        return {self._names[task]: list(its) for task, its in self._statistics.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Before parameters are written. Tasks that `state` knows nothing of begin anew."""
        for task, name in self._names.items():
            if name in state:
                self._statistics[task] = Statistics(*state[name])


def _heads(agent: Agent, spaces: Sequence[TaskSpaces]) -> list[tuple[slice, slice]]:
    """Where in the flat vector each task's head is, and within it what is added to all of its outputs."""
    groups = [task_groups(agent, task) for task in spaces]
    if len(spaces) > 1:
        heads = TaskLayout(agent, spaces).heads
    else:
        end = sum(group.size for group in groups[0])
        heads = [slice(end - groups[0][-1].size, end)]
    return [(head, _shift(head.start, task[-1])) for head, task in zip(heads, groups, strict=True)]


def _shift(start: int, head: LayerGroup) -> slice:
    """The bias of a plain head, or of a dueling one's value stream: the first pair of weight and bias."""
    weight, bias = map(size, ([head.shapes[0]], [head.shapes[1]]))
    return slice(start + weight, start + weight + bias)
