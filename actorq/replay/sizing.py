"""How much memory a replay will take, told from its settings before it holds anything."""

from __future__ import annotations

from dataclasses import dataclass

PRIORITY_BYTES = 64 / 7
"""A float64, and its share of the sums above it: eight to a node, eight nodes to a node, and so on."""


@dataclass(frozen=True, slots=True)
class TransitionBytes:
    """What one transition takes in a replay that is full."""

    record: int
    """Action, return, discount, and which frames make its two states."""
    frames: float
    """Its share of the frames."""
    index: float
    """Its priority; 0 where sampling is uniform."""

    @property
    def total(self) -> float:
        return self.record + self.frames + self.index


def transition_bytes(
    frame_bytes: int, *, stack: int, n_step: int, chunk_steps: int, prioritized: bool
) -> TransitionBytes:
    """Of chunks of `chunk_steps` steps, each transition `n_step` of them long.

    A chunk keeps each frame once, those before its first step and after its last among them:
    (chunk_steps + n_step + stack - 1) / chunk_steps frames a transition. Where episodes end, one more frame
    may be kept, which isn't counted: in episodes of 200 steps half a percent.
    """
    return TransitionBytes(
        record=16 + 8 * stack,  # int64 action, two float32, and for each of the two states `stack` int32
        frames=frame_bytes * (chunk_steps + n_step + stack - 1) / chunk_steps,
        index=PRIORITY_BYTES if prioritized else 0.0,
    )
