"""Replay: an index that says which, over a store that holds what."""

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
    """A replay at one moment. Counts are of transitions, over its whole life where not said otherwise."""

    size: int
    """Held now."""
    capacity: int
    """Held at most."""
    inserted: int
    evicted: int
    sampled: int
    updated: int
    """Priorities that came back, late ones included."""
    late: int
    """Priorities that came back for transitions since evicted, and were ignored."""
    bytes: int
    """Allocated for transitions and index."""
    priority_total: float
    """Sum of p^alpha over what is held now (the size, where sampling is uniform)."""
    priority_largest: float
    """Largest p^alpha held now (1, where sampling is uniform)."""


class ReplayBuffer:
    """Transitions in, batches out. One thread at a time; nothing here waits."""

    def __init__(self, store: MemoryStore, index: Index, *, seed: int | Sequence[int] = 0) -> None:
        """``store`` and ``index`` are empty and of one capacity; ``seed`` decides every draw."""
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
        """What the next transition to be added will be called: how many were added so far."""
        return self._store.ids.stop

    def add(self, chunk: Chunk) -> range:
        """Copy a chunk in, the oldest chunks making room for it; returns the ids of its transitions.

        Raises `ValueError`, and changes nothing, if `Chunk.check` does, if the chunk is larger than the
        capacity, or if its frames are unlike the ones before it.
        """
        stored = self._store.add(chunk)
        if stored.evicted:
            self._index.remove(stored.evicted)
        self._index.add(stored.added, chunk.priorities)
        return stored.added

    def sample(self, batch_size: int, beta: float = 0.0) -> Batch:
        """Draw a batch, with replacement, whose arrays are the caller's own.

        ``beta`` in 0..1 is the exponent of the importance weights. Raises `ValueError` if there is nothing
        to draw from.
        """
        sample = self.draw(batch_size)
        return Batch.of(sample, importance_weights(sample.probabilities, beta))

    def draw(self, count: int) -> Sample:
        """Draw ``count`` transitions, with replacement; the arrays are the caller's own.

        Raises `ValueError` if there is nothing to draw from.
        """
        ids, probabilities = self._index.sample(count, self._rng)
        self._sampled += count
        return self._store.gather(ids, probabilities)

    @property
    def total(self) -> float:
        """What it weighs as a shard: the sum of p^alpha over what is held (uniform: how much that is)."""
        return self._index.total

    def update(self, ids: NDArray[np.int64], priorities: ArrayLike) -> int:
        """Give ``ids`` [n] the raw priorities |TD error| [n]; returns how many came late and were ignored.

        Of an id named twice the last priority stays. Raises `ValueError`, and changes nothing, if a priority
        is NaN, infinite or negative or an id was never given out.
        """
        late = self._index.update(ids, priorities)
        self._updated += len(ids)
        self._late += late
        return late

    def statistics(self) -> ReplayStatistics:
        """How it stands now. Looks at every priority: for once a second, not once a batch."""
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
        """Copies of everything, in dicts of arrays, numbers and strings: what is held, drawn and counted."""
        return {
            "store": self._store.state(),
            "index": self._index.state(),
            "generator": self._rng.bit_generator.state,
            "sampled": self._sampled,
            "updated": self._updated,
            "late": self._late,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on exactly as the replay that `state` was taken of would.

        Raises `ValueError` if the state is of another kind of index, of other settings, or holds too much.
        """
        self._index.load_state(state["index"])
        self._store.load_state(state["store"])
        self._rng.bit_generator.state = state["generator"]
        self._sampled = state["sampled"]
        self._updated = state["updated"]
        self._late = state["late"]


def make_replay(config: ReplayConfig, *, seed: int | Sequence[int] = 0) -> ReplayBuffer:
    """An empty replay in memory, as ``config`` describes it. Loads numba if sampling is prioritized."""
    return ReplayBuffer(MemoryStore(config.capacity), make_index(config), seed=seed)


def make_index(config: ReplayConfig) -> Index:
    """An empty index, as ``config`` describes it. Loads numba if sampling is prioritized."""
    if config.sampling == "prioritized":
        return PrioritizedIndex(config.capacity, alpha=config.alpha, epsilon=config.epsilon)
    return UniformIndex(config.capacity)
