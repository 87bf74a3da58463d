"""Where each task's network lies in the flat vector that several tasks share. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actorq.learning.agent import Agent

from .spec import network_shapes, size


class TaskSpaces(Protocol):
    """What a task's network must know of its environment."""

    @property
    def observation_shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def actions(self) -> int: ...


class TaskLayout:
    """The vector is [encoder of each task | trunk | head of each task]; see `MultiTaskNetwork`.

    The network of one task is an ordinary one, with the parameters [its encoder | trunk | its head].
    """

    encoders: list[slice]
    trunk: slice
    heads: list[slice]

    def __init__(self, agent: Agent, spaces: Sequence[TaskSpaces]) -> None:
        """Raises ValueError for tasks that can't share a network."""
        own = [network_shapes(agent, task.observation_shape, task.actions) for task in spaces]
        hidden, head = 2 * len(agent.hidden_widths), 4 if agent.dueling else 2
        if len(agent.hidden_widths) < 2:
            raise ValueError(
                "tasks share all hidden layers but the first: agent.hidden must have two or more"
            )
        first = [len(shapes) - head - hidden + 2 for shapes in own]
        encoders = [size(shapes[:end]) for shapes, end in zip(own, first, strict=True)]
        trunk = size(own[0][first[0] : -head])
        self._place(encoders, trunk, [size(shapes[-head:]) for shapes in own])

    @classmethod
    def of_sizes(cls, encoders: Sequence[int], trunk: int, heads: Sequence[int]) -> TaskLayout:
        """Of a network of which only these are known."""
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
        """What `of_sizes` takes."""
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
        """`mine`, with all taken over that another network of the same trunk knows: `places` are pairs of a
        task here and the same task there. Raises ValueError where one's parts have other sizes."""
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
