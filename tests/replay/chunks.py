"""Chunks for tests: each frame holds its own number, so that a wrong row shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from actorq.replay.chunk import Batch, Chunk, Sample


def make_chunk(
    transitions: int, *, start: int = 0, stack: int = 1, n_step: int = 1, frame_shape: tuple[int, ...] = (2,)
) -> Chunk:
    """One stretch of an environment whose frames count up from ``start``."""
    frames = transitions + stack - 1 + n_step
    numbers = np.arange(start, start + frames, dtype=np.float32)
    index = (np.arange(transitions)[:, None] + np.arange(stack)).astype(np.int32)
    return Chunk(
        frames=np.broadcast_to(numbers.reshape(-1, *[1] * len(frame_shape)), (frames, *frame_shape)).copy(),
        index=index,
        next_index=index + np.int32(n_step),
        actions=np.arange(start, start + transitions, dtype=np.int64),
        returns=np.arange(start, start + transitions, dtype=np.float32) / np.float32(2),
        discounts=np.full(transitions, 0.99, np.float32),
        priorities=np.linspace(0.1, 2.0, transitions, dtype=np.float32),
    )


def changed(chunk: Chunk, **fields: Any) -> Chunk:
    """The same chunk but for some fields."""
    return Chunk(**{name: fields.get(name, getattr(chunk, name)) for name in chunk.__struct_fields__})


def sample_of(batch: Batch) -> Sample:
    """The batch without its importance weights."""
    return Sample(**{name: getattr(batch, name) for name in Sample.__struct_fields__})
