"""Reader's cache of small chunks, which are kept whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np

from actorq.replay.chunk import Chunk, Sample
from actorq.replay.memory_store import MemoryStore

from .format import Rows
from .sample_refs import SampleRefs


class ReadsWhole(Protocol):
    def whole(self, names: Sequence[int]) -> list[tuple[Rows, bytes]]: ...


class ChunkCache:
    """First-in-first-out cache of whole chunks, of at most about ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        """``limit`` in bytes."""
        self._limit = limit
        self._store: MemoryStore | None = None
        self._firsts: dict[int, int] = {}  # chunk name: the store's id of its first transition
        self._order: deque[tuple[int, int]] = deque()  # (name, first id after it), oldest first

    def gather(self, refs: SampleRefs) -> Sample | None:
        """The transitions of ``refs`` [B], or None unless all of them are in the cache."""
        firsts = [self._firsts.get(name, -1) for name in refs.chunks.tolist()]
        if self._store is None or -1 in firsts:
            return None
        return _gather(self._store, firsts, refs)

    def read(self, refs: SampleRefs, reading: ReadsWhole) -> Sample:
        """The transitions of ``refs`` [B]; missing chunks are read and cached.

        Raises what ``reading`` raises.
        """
        names = refs.chunks.tolist()
        wanted = list(dict.fromkeys(names))
        absent = [name for name in wanted if name not in self._firsts]
        for name, (rows, frames) in zip(absent, reading.whole(absent), strict=True):
            self._keep(name, rows.chunk(frames))
        gathered = self.gather(refs)
        if gathered is not None:
            return gathered
        # This batch alone is larger than the cache.
        whole = [rows.chunk(frames) for rows, frames in reading.whole(wanted)]
        apart = MemoryStore(sum(map(len, whole)))
        firsts = {name: apart.add(chunk).added.start for name, chunk in zip(wanted, whole, strict=True)}
        return _gather(apart, [firsts[name] for name in names], refs)

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


def _gather(store: MemoryStore, firsts: Sequence[int], refs: SampleRefs) -> Sample:
    """Copy the transitions from the cache. ``firsts`` [B]: the store's id of the first transition of each
    referenced chunk.
    """
    stored = store.gather(np.array(firsts, np.int64) + refs.rows, refs.probabilities)
    return msgspec.structs.replace(stored, ids=refs.ids)
