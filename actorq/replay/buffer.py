"""Replay buffer: an index decides which transitions are drawn, a store holds their data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .chunk import Batch, Chunk, Sample
from .config import ReplayConfig
from .memory_store import MemoryStore
from .sampling.index import Index
from .sampling.prioritized import PrioritizedIndex, importance_weights
from .sampling.uniform import UniformIndex


class ReplayStatistics(msgspec.Struct, frozen=True):
    """Statistics of a replay. Counts are of transitions, since its start unless stated otherwise."""

    size: int
    """Transitions held now."""
    capacity: int
    """Most transitions held at a time."""
    inserted: int
    evicted: int
    sampled: int
    updated: int
    """Priorities updated, late ones included."""
    late: int
    """Priorities received for evicted transitions, and ignored."""
    bytes: int
    """Bytes allocated for transitions and index."""
    priority_total: float
    """Sum of p^alpha over the transitions held now (with uniform sampling: the size)."""
    priority_largest: float
    """Largest p^alpha held now (with uniform sampling: 1)."""


class ReplayBuffer:
    """Takes chunks of transitions and draws samples. Not thread-safe, and never blocks."""

    def __init__(self, store: MemoryStore, index: Index, *, seed: int | Sequence[int] = 0) -> None:
        """``store`` and ``index`` are empty and have the same capacity; ``seed`` determines every draw."""
        self._store = store
        self._index = index
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._sampled = 0
        self._updated = 0
        self._late = 0

    def __len__(self) -> int:
        """Transitions held."""
        return len(self._store)

    @property
    def next_id(self) -> int:
        """The id of the next transition to be added: the number added so far."""
        return self._store.ids.stop

    def add(self, chunk: Chunk) -> range:
        """Copy a chunk in, evicting the oldest chunks if there is no room; returns the ids of its
        transitions.

        Raises `ValueError`, and changes nothing, if `Chunk.check` does, if the chunk is larger than the
        capacity, or if its frames differ in shape or dtype from the ones before.
        """
        stored = self._store.add(chunk)
        if stored.evicted:
            self._index.remove(stored.evicted)
        self._index.add(stored.added, chunk.priorities)
        return stored.added

    def sample(self, batch_size: int, beta: float = 0.0) -> Batch:
        """Draw a batch, with replacement; its arrays are new.

        ``beta`` in 0..1 is the exponent of the importance weights. Raises `ValueError` if the replay is
        empty.
        """
        sample = self.draw(batch_size)
        return Batch.of(sample, importance_weights(sample.probabilities, beta))

    def draw(self, count: int) -> Sample:
        """Draw ``count`` transitions, with replacement; the arrays are new.

        Raises `ValueError` if the replay is empty.
        """
        ids, probabilities = self._index.sample(count, self._rng)
        self._sampled += count
        return self._store.gather(ids, probabilities)

    @property
    def total(self) -> float:
        """Weight of this shard among several: the sum of p^alpha over the transitions held (uniform: their
        number).
        """
        return self._index.total

    def update(self, ids: NDArray[np.int64], priorities: ArrayLike) -> int:
        """Set the raw priorities |TD error| [n] of ``ids`` [n]; returns how many were late and ignored.

        If an id occurs twice its last priority counts. Raises `ValueError`, and changes nothing, if a
        priority is NaN, infinite or negative or an id was never assigned.
        """
        late = self._index.update(ids, priorities)
        self._updated += len(ids)
        self._late += late
        return late

    def statistics(self) -> ReplayStatistics:
        """Present statistics. Reads every priority: meant for once a second, not once a batch."""
        held = self._store.ids
        return ReplayStatistics(
            size=len(held),
            capacity=self._store.capacity,
            inserted=held.stop,
            evicted=held.start,
            sampled=self._sampled,
            updated=self._updated,
            late=self._late,
            bytes=self._store.nbytes + self._index.nbytes,
            priority_total=self._index.total,
            priority_largest=self._index.largest,
        )

    def state(self) -> dict[str, Any]:
        """Copies of all contents, draws and counts, in dicts of arrays, numbers and strings."""
        return {
            "store": self._store.state(),
            "index": self._index.state(),
            "generator": self._rng.bit_generator.state,
            "sampled": self._sampled,
            "updated": self._updated,
            "late": self._late,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state: further draws are those of the replay from which it was taken.

        Raises `ValueError` if the state is of another kind of index, of other settings, or holds too much.
        """
        self._index.load_state(state["index"])
        self._store.load_state(state["store"])
        self._rng.bit_generator.state = state["generator"]
        self._sampled = state["sampled"]
        self._updated = state["updated"]
        self._late = state["late"]


def make_replay(config: ReplayConfig, *, seed: int | Sequence[int] = 0) -> ReplayBuffer:
    """An empty replay in memory with the settings of ``config``. Loads numba if sampling is prioritized."""
    return ReplayBuffer(MemoryStore(config.capacity), make_index(config), seed=seed)


def make_index(config: ReplayConfig) -> Index:
    """An empty index with the settings of ``config``. Loads numba if sampling is prioritized."""
    if config.sampling == "prioritized":
        return PrioritizedIndex(config.capacity, alpha=config.alpha, epsilon=config.epsilon)
    return UniformIndex(config.capacity)
