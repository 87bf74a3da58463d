"""Small chunks, kept as a whole by who reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from actorq.replay.chunk import Chunk, Transitions
from actorq.replay.memory_store import MemoryStore

from .format import Rows


class ReadsWhole(Protocol):
    def whole(self, names: Sequence[int]) -> list[tuple[Rows, bytes]]: ...


class ChunkCache:
    """Keeps about so many bytes of chunks, those read first leaving first: as the replay itself does."""

    def __init__(self, limit: int) -> None:
        """``limit`` in bytes."""
        self._limit = limit
        self._store: MemoryStore | None = None
        self._firsts: dict[int, int] = {}  # of a chunk's name: what the store calls its first transition
        self._order: deque[tuple[int, int]] = deque()  # (name, first id after it), oldest first

    def gather(self, names: NDArray[np.int64], rows: NDArray[np.int32]) -> Transitions | None:
        """Transitions [B], if all of them are kept."""
        found = self._firsts
        firsts = [found.get(name, -1) for name in names.tolist()]
        if self._store is None or -1 in firsts:
            return None
        return self._store.gather(np.array(firsts, np.int64) + rows)

    def read(self, names: NDArray[np.int64], rows: NDArray[np.int32], reading: ReadsWhole) -> Transitions:
        """Transitions [B]; those not kept are read, and kept from now on. Raises what ``reading`` raises."""
        wanted = list(dict.fromkeys(names.tolist()))
        absent = [name for name in wanted if name not in self._firsts]
        for name, (its_rows, frames) in zip(absent, reading.whole(absent), strict=True):
            self._keep(name, its_rows.chunk(frames))
        gathered = self.gather(names, rows)
        if gathered is not None:
            return gathered
        # One batch takes more than the limit.
        whole = [its_rows.chunk(frames) for its_rows, frames in reading.whole(wanted)]
        apart = MemoryStore(sum(map(len, whole)))
        firsts = {name: apart.add(chunk).added.start for name, chunk in zip(wanted, whole, strict=True)}
        return apart.gather(np.array([firsts[name] for name in names.tolist()], np.int64) + rows)

    def _keep(self, name: int, chunk: Chunk) -> None:
        if self._store is None:
            row = 16 + 8 * chunk.index.shape[1] + chunk.frames.nbytes / len(chunk)
            self._store = MemoryStore(max(1, int(self._limit / row)))
        if len(chunk) > self._store.capacity:
            return
        stored = self._store.add(chunk)
        self._firsts[name] = stored.added.start
        self._order.append((name, stored.added.stop))
        while self._order[0][1] <= stored.evicted.stop:
            del self._firsts[self._order.popleft()[0]]
