"""How much memory a replay will take, told from its settings before it holds anything."""

from __future__ import annotations

from dataclasses import dataclass

PRIORITY_BYTES = 64 / 7
"""A float64, and its share of the sums above it: eight to a node, eight nodes to a node, and so on."""
LOCATION_BYTES = 12
"""In a shard whose chunks are in Redis: which chunk a transition is in, and where in it."""
REDIS_CHUNK_BYTES = 556
"""Of each chunk in Redis: the header of its rows, two entries of Redis's table, one of the shard's list."""


@dataclass(frozen=True, slots=True)
class ChunkShape:
    """The chunks that fill a replay, as far as its size depends on them."""

    frame_bytes: int
    """Of one frame."""
    stack: int
    n_step: int
    steps: int
    """Of each environment."""
    environments: int

    @property
    def record_bytes(self) -> int:
        """Of a transition's action, return and discount, and of the rows that make its two states."""
        return 16 + 8 * self.stack

    @property
    def frames_bytes(self) -> float:
        """A transition's share of the frames.

        A chunk keeps each frame once, those before its first step and after its last among them. Where
        episodes end, one more frame may be kept that isn't counted: in episodes of 200 steps half a percent.
        """
        return self.frame_bytes * (self.steps + self.n_step + self.stack - 1) / self.steps


def bytes_in_memory(chunk: ChunkShape, *, prioritized: bool) -> float:
    """A transition in a full replay in memory."""
    return chunk.record_bytes + chunk.frames_bytes + _index_bytes(prioritized)


def bytes_beside_redis(*, prioritized: bool) -> float:
    """What the shard keeps of a transition that lies in Redis."""
    return LOCATION_BYTES + _index_bytes(prioritized)


def bytes_in_redis(chunk: ChunkShape) -> float:
    """A transition in Redis: with its first priority, a float32, and its share of what each chunk costs."""
    of_chunk = REDIS_CHUNK_BYTES / (chunk.steps * chunk.environments)
    return chunk.record_bytes + 4 + chunk.frames_bytes + of_chunk


def _index_bytes(prioritized: bool) -> float:
    return PRIORITY_BYTES if prioritized else 0.0
