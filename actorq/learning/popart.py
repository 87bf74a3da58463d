"""PopArt: a head's targets are normalized, and its Q-values are preserved."""

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
"""Bounds of the scale, from the same table."""


class Statistics(NamedTuple):
    """Statistics of a task's learning targets, in units of reward."""

    mean: float = 0.0
    square: float = 1.0
    """Mean of the squared targets."""

    @property
    def scale(self) -> float:
        variance = max(self.square - self.mean**2, 0.0)
        return min(max(math.sqrt(variance), LEAST), MOST)

    def moved(self, targets: Tensor) -> Statistics:
        """The statistics moved towards those of a batch of targets."""
        values = targets.to(torch.float64)
        mean, square = float(values.mean()), float(values.square().mean())
        return Statistics(self.mean + BETA * (mean - self.mean), self.square + BETA * (square - self.square))


class PopArt:
    """Adaptive normalization of Q-values (van Hasselt et al. 2016, arXiv 1602.07714), for each task by itself
    (Hessel et al. 2018, arXiv 1809.04474).

    The heads of `adaptive` tasks have normalized outputs, (Q - mean) / scale, in the online and in the target
    network alike, and are changed whenever mean and scale move so that Q stays the same. So all tasks
    contribute alike to the gradient of the shared layers, whatever the units of their rewards. This is
    invisible outside: `read` and `write` use the parameters of a plain Q-network.

    A batch moves the statistics after its update, not before as in algorithm 1. The optimizer's moments are
    unchanged: gradients are those of normalized values, before and after. With prioritized replay the
    statistics are those of the drawn transitions. Without adaptive tasks it does nothing.
    """

    def __init__(
        self,
        agent: Agent,
        spaces: Sequence[TaskSpaces],
        adaptive: Mapping[int, str],
        online: FlatParameters,
        target: FlatParameters,
    ) -> None:
        """`adaptive`: tasks by number, and their names in `state`. Raises ValueError for a custom network,
        whose heads are unknown.
        """
        self._names = adaptive
        self._heads = _heads(agent, spaces) if adaptive else []
        self._statistics = {task: Statistics() for task in adaptive}
        self._targets: dict[int, Tensor] = {}
        self._both = (online, target)

    def normalized(self, task: int, batch: StagedBatch) -> StagedBatch:
        """Returns for which R + D * normalized(Q') is the normalized target."""
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
        """Move the statistics towards the noted targets, and change the heads so that no Q-value changes."""
        for task, targets in self._targets.items():
            before = self._statistics[task]
            its = self._statistics[task] = before.moved(targets)
            for network in self._both:
                shift = (before.mean - its.mean) / its.scale
                self._change(network.vector, task, before.scale / its.scale, shift)
        self._targets.clear()

    def scales(self) -> dict[str, float]:
        """The scale of each adaptive task, by name."""
        return {self._names[task]: its.scale for task, its in self._statistics.items()}

    def read(self, parameters: FlatParameters) -> NDArray[Any]:
        """A copy of the online or target parameters, [size], as of a plain Q-network."""
        vector = parameters.read()
        for task, its in self._statistics.items():
            self._change(vector, task, its.scale, its.mean)
        return vector

    def write(self, parameters: FlatParameters, vector: NDArray[Any]) -> None:
        """Set the parameters from a plain Q-network's vector [size]. Raises ValueError for another size."""
        vector = np.array(vector)
        if vector.shape == (parameters.size,):
            for task, its in self._statistics.items():
                self._change(vector, task, 1.0 / its.scale, -its.mean / its.scale)
        parameters.write(vector)

    def _change(self, vector: Any, task: int, factor: float, shift: float) -> None:
        """Change a head's output to factor * output + shift."""
        head, offset = self._heads[task]
        vector[head] *= factor
        vector[offset] += shift

    def state(self) -> dict[str, Any]:
        """The statistics by the task's name."""
        return {self._names[task]: list(its) for task, its in self._statistics.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a `state`, before parameters are written. Tasks that it lacks start anew."""
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
