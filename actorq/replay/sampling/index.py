"""Common parts of all indices: the interface, and the arithmetic from ids to slots."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Index(Protocol):
    """The ids held, and draws among them. See `PrioritizedIndex` for what each method guarantees."""

    def __len__(self) -> int: ...
    @property
    def total(self) -> float: ...
    @property
    def largest(self) -> float: ...
    @property
    def nbytes(self) -> int: ...
    def add(self, ids: range, priorities: ArrayLike) -> None: ...
    def remove(self, ids: range) -> None: ...
    def update(self, ids: NDArray[np.int64], priorities: ArrayLike) -> int: ...
    def sample(
        self, count: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


class IdWindow:
    """The ids held: a range of consecutive numbers, at most ``capacity`` long, that only moves forward.

    So an id's slot is ``id % capacity``, no two ids held share one, and no table of ids is needed.
    """

    def __init__(self, capacity: int, *, first: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; it must be at least one transition")
        if first < 0:
            raise ValueError(f"the first id is {first}; ids start from 0")
        self.capacity = capacity
        self.first = first
        """The oldest id held (the next to be added, if none is)."""
        self.stop = first
        """The next id to be added."""

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def ids(self) -> range:
        """The ids held, oldest first."""
        return range(self.first, self.stop)

    def extend(self, ids: range) -> None:
        """Add ``ids`` at the end. Raises `ValueError` unless they follow the newest and fit."""
        if ids.start != self.stop or ids.step != 1:
            raise ValueError(f"ids {ids} are not consecutive: the next id is {self.stop}")
        if ids.stop - self.first > self.capacity:
            raise ValueError(
                f"{len(ids)} more ids don't fit: {len(self)} of at most {self.capacity} are held"
            )
        self.stop = ids.stop

    def retract(self, ids: range) -> None:
        """Remove ``ids`` from the beginning. Raises `ValueError` unless they are the oldest held."""
        if ids.start != self.first or ids.step != 1 or ids.stop > self.stop:
            raise ValueError(f"ids {ids} are not the oldest of {self.ids}")
        self.first = ids.stop

    def slots(self, ids: range) -> NDArray[np.int64]:
        """[n] the slots of a range of ids."""
        return np.arange(ids.start, ids.stop, dtype=np.int64) % self.capacity


def check_ids(ids: NDArray[np.int64], priorities: NDArray[Any], window: IdWindow) -> None:
    """Raise `ValueError` unless ``ids`` [n] were all assigned, and there is one priority for each."""
    if ids.dtype != np.int64 or ids.ndim != 1:
        raise ValueError(f"ids are {ids.dtype} of shape {ids.shape}; they must be int64 of shape [n]")
    if priorities.shape != ids.shape:
        raise ValueError(
            f"priorities have shape {priorities.shape} for {len(ids)} ids; there must be one for each"
        )
    unknown = ids[(ids < 0) | (ids >= window.stop)]
    if unknown.size:
        raise ValueError(f"id {unknown[0]} was never assigned: ids so far are 0..{window.stop - 1}")
