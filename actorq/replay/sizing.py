"""Memory estimate of a replay, from its settings."""

from __future__ import annotations

from dataclasses import dataclass

PRIORITY_BYTES = 64 / 7
"""A float64, and its share of the sums above it: eight to a node on every level."""
LOCATION_BYTES = 12
"""Chunk and row of a transition, in a shard whose chunks are in Redis."""
REDIS_CHUNK_BYTES = 556
"""For each chunk in Redis: the header of its rows, two entries of Redis's table, one of the shard's list."""


@dataclass(frozen=True, slots=True)
class ChunkShape:
    """Properties of the chunks that determine a replay's size."""

    frame_bytes: int
    """Bytes of one frame."""
    stack: int
    n_step: int
    steps: int
    """Steps of each environment in a chunk."""
    environments: int

    @property
    def record_bytes(self) -> int:
        """Bytes of a transition's action, return and discount, and of the rows that make its two states."""
        return 16 + 8 * self.stack

    @property
    def frames_bytes(self) -> float:
        """A transition's share of the frames, in bytes.

        A chunk stores each frame once, including those before its first step and after its last. Where
        episodes end, one more frame may be stored that isn't counted: half a percent in episodes of 200
        steps.
        """
        return self.frame_bytes * (self.steps + self.n_step + self.stack - 1) / self.steps


def bytes_in_memory(chunk: ChunkShape, *, prioritized: bool) -> float:
    """Bytes of a transition in a full replay in memory."""
    return chunk.record_bytes + chunk.frames_bytes + _index_bytes(prioritized)


def bytes_beside_redis(*, prioritized: bool) -> float:
    """Bytes that the shard needs for a transition whose data are in Redis."""
    return LOCATION_BYTES + _index_bytes(prioritized)


def bytes_in_redis(chunk: ChunkShape) -> float:
    """Bytes of a transition in Redis: with its first priority, a float32, and its share of the cost of a
    chunk.
    """
    of_chunk = REDIS_CHUNK_BYTES / (chunk.steps * chunk.environments)
    return chunk.record_bytes + 4 + chunk.frames_bytes + of_chunk


def _index_bytes(prioritized: bool) -> float:
    return PRIORITY_BYTES if prioritized else 0.0
