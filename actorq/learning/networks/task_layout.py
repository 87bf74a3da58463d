"""Layout of the flat vector that several tasks share. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actorq.learning.agent import Agent

from .spec import TaskSpaces, shared_from, task_groups


class TaskLayout:
    """The vector is [encoder of each task | trunk | head of each task]; see `NetworkModule`.

    The network of one task is an ordinary one, with the parameters [its encoder | trunk | its head].
    """

    encoders: list[slice]
    trunk: slice
    heads: list[slice]

    def __init__(self, agent: Agent, spaces: Sequence[TaskSpaces]) -> None:
        """Raises ValueError for tasks that can't share a network."""
        own = [task_groups(agent, task) for task in spaces]
        first = [shared_from(groups) for groups in own]
        encoders = [sum(group.size for group in groups[:end]) for groups, end in zip(own, first, strict=True)]
        trunk = sum(group.size for group in own[0][first[0] : -1])
        self._place(encoders, trunk, [groups[-1].size for groups in own])

    @classmethod
    def of_sizes(cls, encoders: Sequence[int], trunk: int, heads: Sequence[int]) -> TaskLayout:
        """The layout for these sizes."""
        layout = cls.__new__(cls)
        layout._place(encoders, trunk, heads)
        return layout

    def _place(self, encoders: Sequence[int], trunk: int, heads: Sequence[int]) -> None:
        ends = np.cumsum([0, *encoders, trunk, *heads]).tolist()
        slices = [slice(start, end) for start, end in pairwise(ends)]
        count = len(encoders)
        self.encoders, self.trunk, self.heads = slices[:count], slices[count], slices[count + 1 :]
        self.size: int = ends[-1]

    def sizes(self) -> dict[str, Any]:
        """The argument of `of_sizes`."""
        return {
            "encoders": [part.stop - part.start for part in self.encoders],
            "trunk": self.trunk.stop - self.trunk.start,
            "heads": [part.stop - part.start for part in self.heads],
        }

    def part(self, vector: NDArray[Any], task: int) -> NDArray[Any]:
        """A copy of the parameters of one task's network. Raises ValueError for a vector of another size."""
        if vector.shape != (self.size,):
            raise ValueError(f"the network has {self.size} parameters; the vector is {list(vector.shape)}")
        return np.concatenate([vector[self.encoders[task]], vector[self.trunk], vector[self.heads[task]]])

    def adopt(
        self, mine: NDArray[Any], theirs: NDArray[Any], layout: TaskLayout, places: Mapping[int, int]
    ) -> NDArray[Any]:
        """`mine`, with the parts of common tasks copied from another network with the same trunk: `places`
        are pairs of a task here and the same task there. Raises ValueError if parts have other sizes.
        """
        if theirs.shape != (layout.size,):
            raise ValueError(f"the other network has {layout.size} parameters, not {list(theirs.shape)}")
        vector = np.array(mine)
        pairs = [(self.trunk, layout.trunk)]
        for here, there in places.items():
            pairs += [(self.encoders[here], layout.encoders[there]), (self.heads[here], layout.heads[there])]
        for own, its in pairs:
            if own.stop - own.start != its.stop - its.start:
                raise ValueError("the networks differ in their hidden layers or in a task's spaces")
            vector[own] = theirs[its]
        return vector
