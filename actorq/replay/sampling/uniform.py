"""Uniform sampling, with the interface of `PrioritizedIndex`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .index import IdWindow, check_ids


class UniformIndex:
    """Draws every id held with the same probability, independently (Mnih et al., Nature 2015)."""

    def __init__(self, capacity: int) -> None:
        """``capacity``: most ids held at a time."""
        self._window = IdWindow(capacity)

    def __len__(self) -> int:
        """Ids held."""
        return len(self._window)

    @property
    def total(self) -> float:
        """Each id counts 1."""
        return float(len(self))

    @property
    def largest(self) -> float:
        """1 if any id is held, else 0."""
        return float(len(self) > 0)

    @property
    def nbytes(self) -> int:
        """0: nothing is stored for an id."""
        return 0

    def add(self, ids: range, priorities: ArrayLike) -> None:
        """Add ``ids``, which follow those added before; ``priorities`` are ignored.

        Raises `ValueError`, and changes nothing, if ids aren't consecutive or don't fit (`remove` comes
        first).
        """
        self._window.extend(ids)

    def remove(self, ids: range) -> None:
        """Remove ``ids``, the oldest held. Raises `ValueError` if they aren't."""
        self._window.retract(ids)

    def update(self, ids: NDArray[np.int64], priorities: ArrayLike) -> int:
        """Store nothing; returns how many of ``ids`` [n] were late.

        Raises `ValueError` for ids never added.
        """
        check_ids(ids, np.asarray(priorities), self._window)
        return int((ids < self._window.first).sum())

    def sample(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Draw ``count`` ids, with replacement; returns them and the probability 1/N of each, both [count].

        Raises `ValueError` if nothing is held.
        """
        if not len(self):
            raise ValueError("there is nothing to sample: the replay is empty")
        ids = self._window.ids
        return rng.integers(ids.start, ids.stop, count), np.full(count, 1.0 / len(ids))

    def state(self) -> dict[str, Any]:
        """The complete state, in plain numbers."""
        ids = self._window.ids
        return {"kind": "uniform", "first_id": ids.start, "next_id": ids.stop}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `state`. Raises `ValueError`, and changes nothing, if it doesn't fit this
        index.
        """
        if state["kind"] != "uniform":
            raise ValueError(f"the saved index has kind = {state['kind']!r}, this one 'uniform'")
        window = IdWindow(self._window.capacity, first=state["first_id"])
        window.extend(range(state["first_id"], state["next_id"]))
        self._window = window
