"""What is told before a replay holds anything is what it then takes."""

from __future__ import annotations

import pytest

from actorq.replay import Replay, ReplayConfig, make_replay
from actorq.replay.sizing import ChunkShape, bytes_in_memory
from tests.replay.chunks import make_chunk


@pytest.mark.parametrize("sampling", ["prioritized", "uniform"])
@pytest.mark.parametrize(
    ("stack", "n_step", "steps", "frame_shape"),
    [(1, 1, 4, (4,)), (1, 3, 16, (8,)), (4, 3, 64, (21, 21))],
)
def test_a_full_replay_takes_what_was_told(
    stack: int, n_step: int, steps: int, frame_shape: tuple[int, ...], sampling: str
) -> None:
    capacity = 8_000
    config = ReplayConfig(capacity=capacity, sampling=sampling)  # type: ignore[arg-type]
    chunk = make_chunk(steps, stack=stack, n_step=n_step, frame_shape=frame_shape)
    shape = ChunkShape(chunk.frames[0].nbytes, stack, n_step, steps, environments=1)
    told = bytes_in_memory(shape, prioritized=sampling == "prioritized")
    replay: Replay = make_replay(config)
    for _ in range(2 * capacity // steps):
        replay.add(chunk)
    assert replay.statistics().size == capacity
    assert replay.statistics().bytes == pytest.approx(capacity * told, rel=0.03)
