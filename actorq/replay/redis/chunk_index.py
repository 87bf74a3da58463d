"""Chunk index: the chunks that a shard has in Redis, and the chunk that holds each transition."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actorq.replay.sampling.index import IdWindow

from .format import ChunkRecord


class ChunkIndex:
    """Index of at most ``capacity`` transitions, first in, first out, by whole chunks: twelve bytes for
    each.
    """

    def __init__(self, capacity: int, records: Sequence[ChunkRecord] = (), *, first: int = 0) -> None:
        """``records``: the initial chunks, oldest first, their ids without a gap; or else the ``first``
        id.
        """
        self._window = IdWindow(capacity, first=records[0].first if records else first)
        self._records: deque[ChunkRecord] = deque()
        self._names = np.empty(capacity, np.int64)
        self._rows = np.empty(capacity, np.int32)
        for record in records:
            self._append(record)

    @property
    def ids(self) -> range:
        """Ids of the transitions held, oldest first."""
        return self._window.ids

    @property
    def nbytes(self) -> int:
        return self._names.nbytes + self._rows.nbytes

    @property
    def records(self) -> list[ChunkRecord]:
        """Chunks held, oldest first."""
        return list(self._records)

    @property
    def newest(self) -> ChunkRecord | None:
        return self._records[-1] if self._records else None

    def room_for(self, transitions: int) -> list[ChunkRecord]:
        """The oldest chunks that must be evicted to make room for this many more transitions."""
        window, going = self._window, list[ChunkRecord]()
        size = len(window) + transitions
        for record in self._records:
            if size <= window.capacity:
                break
            size -= record.transitions
            going.append(record)
        return going

    def replace(self, going: Sequence[ChunkRecord], coming: Sequence[ChunkRecord]) -> None:
        """Evict the oldest chunks and add new ones."""
        for record in going:
            assert self._records.popleft() == record
            self._window.retract(record.ids)
        for record in coming:
            self._append(record)

    def locate(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Names of the chunks that hold ``ids`` [n], and the rows in them; all ids must be held."""
        slots = ids % self._window.capacity
        return self._names[slots], self._rows[slots]

    def holds_any(self, names: NDArray[np.int64]) -> bool:
        """Whether any of these chunks [n] is held."""
        wanted = set(names.tolist())
        return any(record.name in wanted for record in self._records)

    def _append(self, record: ChunkRecord) -> None:
        self._window.extend(record.ids)
        slots = self._window.slots(record.ids)
        self._names[slots] = record.name
        self._rows[slots] = np.arange(record.transitions)
        self._records.append(record)
