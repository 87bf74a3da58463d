"""Replay whose chunks are in Redis: the priority index is in this process, and draws are references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from actorq.replay.buffer import make_index
from actorq.replay.chunk import Chunk
from actorq.replay.config import ReplayConfig
from actorq.replay.sampling.index import Index

from .chunk_index import ChunkIndex
from .format import CHUNK_OVERHEAD_BYTES, ChunkLayout, ChunkRecord, encode_rows
from .sample_refs import SampleRefs
from .store import RedisStore, StoreWrite


@dataclass(frozen=True, slots=True)
class Contents:
    """Contents of a shard in Redis, and the index over them."""

    held: ChunkIndex
    index: Index
    layout: ChunkLayout | None
    """Layout of its chunks, if there are any."""


class RedisReplay:
    """Like `ReplayBuffer`, except for the transitions themselves, which are written to Redis once and not
    kept here.

    Not thread-safe, except `read` and `RedisStore.write`: these block and change nothing of this object, so
    draws may run at the same time.
    """

    def __init__(self, config: ReplayConfig, store: RedisStore, *, seed: int | Sequence[int] = 0) -> None:
        """Empty until `adopt` is called. ``seed`` determines every draw."""
        self.store = store
        self._config = config
        self._contents = Contents(ChunkIndex(config.capacity), make_index(config), None)
        self._layout: ChunkLayout | None = None
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._sampled = self._updated = self._late = 0
        self._next_id = 0
        """Above every id that was assigned, as Redis counts them."""
        self._ahead = 0
        """Offset of ids to those in Redis: none is assigned twice, though Redis may lose the newest."""

    def __len__(self) -> int:
        """Transitions held."""
        return len(self._contents.held.ids)

    @property
    def next_id(self) -> int:
        """The id of the next transition to be added."""
        return self._ahead + self._contents.held.ids.stop

    @property
    def total(self) -> float:
        """Weight of this shard among several: the sum of p^alpha over the transitions held (uniform: their
        number).
        """
        return self._contents.index.total

    # Contents of Redis.

    def read(self, *, afresh: bool) -> Contents:
        """Become the owner of the shard's data in Redis. Raises what `RedisStore.open` raises. Blocks.

        Priorities are the first ones, or newer ones known to this process.
        """
        config, mine = self._config, self._contents
        recovered = self.store.open(config.capacity, afresh=afresh)
        held = ChunkIndex(config.capacity, recovered.records, first=self._next_id)
        index = _index_from(config, held.ids.start)
        if len(held.ids):
            index.add(held.ids, recovered.priorities)
        if len(mine.held.ids):
            _overlay(index, held.records, mine.index.state(), mine.held.records)
        return Contents(held, index, recovered.layout)

    def adopt(self, contents: Contents) -> int:
        """Continue with contents found by `read`; returns how many transitions of before are missing."""
        lost = len(self) - len(contents.held.ids)
        self._contents = contents
        self._layout = contents.layout or self._layout
        self._go_beyond(self._next_id)
        return max(0, lost)

    def _go_beyond(self, next_id: int) -> None:
        """Assign no id below this one any more, if necessary by assigning new ids to the transitions held."""
        held = self._contents.held.ids
        if held.stop < next_id:
            self._ahead += next_id - held.start
        self._next_id = held.stop

    # Adding: `expect_right` each chunk, `plan`, `store.write`, `commit`.

    def expect_right(self, chunk: Chunk) -> None:
        """Raise `ValueError` if the chunk is malformed, too large, or has another layout than the first valid
        one.
        """
        chunk.check()
        if len(chunk) > self._config.capacity:
            raise ValueError(
                f"a chunk of {len(chunk)} transitions doesn't fit a replay of capacity"
                f" {self._config.capacity}: make the capacity larger or the chunks shorter"
            )
        self._layout = self._layout or ChunkLayout.of(chunk)
        if ChunkLayout.of(chunk) != self._layout:
            raise ValueError(f"this chunk has {ChunkLayout.of(chunk)}; those before it have {self._layout}")

    def bytes_at_capacity(self, chunk: Chunk) -> float:
        """Estimate of the bytes in Redis at capacity, if all chunks are like this one."""
        of_chunk = len(encode_rows(chunk)) + chunk.frames.nbytes + CHUNK_OVERHEAD_BYTES
        return of_chunk * (
            self._config.capacity / len(chunk) + 1
        )  # a new one is added before old ones are removed

    def plan(self, chunks: Sequence[Chunk]) -> StoreWrite:
        """The next write: as many of these chunks as fit at once, and at least the first."""
        held = self._contents.held
        first, records = held.ids.stop, list[ChunkRecord]()
        for chunk in chunks:
            if first + len(chunk) - held.ids.stop > self._config.capacity:
                break
            records.append(ChunkRecord(self.store.new_name(), first, len(chunk), len(chunk.frames)))
            first += len(chunk)
        going = held.room_for(first - held.ids.stop)
        return StoreWrite(chunks[: len(records)], records, going, held.newest)

    def commit(self, write: StoreWrite) -> None:
        """Add chunks that were written, so that they can be drawn."""
        held, index = self._contents.held, self._contents.index
        if write.evicted:
            index.remove(range(write.evicted[0].first, write.evicted[-1].ids.stop))
        held.replace(write.evicted, write.records)
        for chunk, record in zip(write.chunks, write.records, strict=True):
            index.add(record.ids, chunk.priorities)
        self._next_id = max(self._next_id, held.ids.stop)

    def ids_of(self, record: ChunkRecord) -> range:
        """The ids of a chunk's transitions."""
        return range(self._ahead + record.first, self._ahead + record.ids.stop)

    # Drawing.

    def draw(self, count: int) -> SampleRefs:
        """Draw ``count`` transitions, with replacement; none if the replay is empty."""
        ids, probabilities = np.empty(0, np.int64), np.empty(0)
        if count and len(self):
            ids, probabilities = self._contents.index.sample(count, self._rng)
            self._sampled += count
        located = self._contents.held.locate(ids)
        return SampleRefs(ids + self._ahead, probabilities, *located, self.store.place)

    def holds_any(self, names: NDArray[np.int64]) -> bool:
        """Whether any of these chunks [n] should be in Redis."""
        return self._contents.held.holds_any(names)

    def update(self, ids: NDArray[np.int64], priorities: ArrayLike) -> int:
        """As `ReplayBuffer.update`; transitions that Redis has lost, or that have new ids, count as late."""
        values = np.asarray(priorities)
        if ids.ndim != 1 or ids.shape != values.shape:
            raise ValueError(f"priorities have shape {values.shape} for ids of shape {ids.shape}")
        former = (ids >= 0) & (ids < self._ahead)
        late = int(np.count_nonzero(former))
        ids, values = ids[~former] - self._ahead, values[~former]
        late += self._contents.index.update(ids, values)
        self._updated += len(ids)
        self._late += late
        return late

    # State: index and counters, no data.

    def state(self) -> dict[str, Any]:
        """Copies of the priorities, of the chunks they belong to, and of draws and counts."""
        return {
            "chunks": np.array(self._contents.held.records, np.int64).reshape(-1, 4),
            "index": self._contents.index.state(),
            "generator": self._rng.bit_generator.state,
            "sampled": self._sampled,
            "updated": self._updated,
            "late": self._late,
            "next_id": self.next_id,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore counters, and the priorities of transitions still held; newer transitions stay."""
        records = [ChunkRecord(*map(int, row)) for row in state["chunks"]]
        _overlay(self._contents.index, self._contents.held.records, state["index"], records)
        self._rng.bit_generator.state = state["generator"]
        self._sampled, self._updated, self._late = state["sampled"], state["updated"], state["late"]
        self._go_beyond(state["next_id"])


def _index_from(config: ReplayConfig, first: int) -> Index:
    """An empty index whose next id is ``first``."""
    index = make_index(config)
    if config.sampling == "prioritized":
        index.load_state({**index.state(), "first_id": first})
    else:
        index.load_state({**index.state(), "first_id": first, "next_id": first})
    return index


def _overlay(
    index: Index, records: Sequence[ChunkRecord], newer: dict[str, Any], newer_records: Sequence[ChunkRecord]
) -> None:
    """Copy the priorities of the newer index for chunks that both have."""
    shared = set(records) & set(newer_records)
    state = index.state()
    if not shared or state["kind"] != "prioritized":
        return
    for record in shared:
        here, there = record.first - state["first_id"], record.first - newer["first_id"]
        values = newer["values"][there : there + record.transitions]
        state["values"][here : here + record.transitions] = values
    index.load_state(state)
