"""Memory estimates of replays equal the memory that they take."""

from __future__ import annotations

from pathlib import Path

import pytest

from actorq.replay.buffer import ReplayBuffer, make_replay
from actorq.replay.config import ReplayConfig
from actorq.replay.redis.replay import RedisReplay
from actorq.replay.redis.store import RedisStore
from actorq.replay.sizing import ChunkShape, bytes_beside_redis, bytes_in_memory, bytes_in_redis

from .chunks import make_chunk
from .redis.redis_servers import LittleRedis


@pytest.mark.parametrize("sampling", ["prioritized", "uniform"])
@pytest.mark.parametrize(
    ("stack", "n_step", "steps", "frame_shape"),
    [(1, 1, 4, (4,)), (1, 3, 16, (8,)), (4, 3, 64, (21, 21))],
)
def test_a_full_replay_takes_the_estimated_memory(
    stack: int, n_step: int, steps: int, frame_shape: tuple[int, ...], sampling: str
) -> None:
    capacity = 8_000
    config = ReplayConfig(capacity=capacity, sampling=sampling)  # type: ignore[arg-type]
    chunk = make_chunk(steps, stack=stack, n_step=n_step, frame_shape=frame_shape)
    shape = ChunkShape(chunk.frames[0].nbytes, stack, n_step, steps, environments=1)
    told = bytes_in_memory(shape, prioritized=sampling == "prioritized")
    replay: ReplayBuffer = make_replay(config)
    for _ in range(2 * capacity // steps):
        replay.add(chunk)
    assert replay.statistics().size == capacity
    assert replay.statistics().bytes == pytest.approx(capacity * told, rel=0.03)


@pytest.mark.parametrize(("steps", "frame_shape"), [(32, (4,)), (64, (21, 21))])
def test_redis_takes_the_estimated_memory(steps: int, frame_shape: tuple[int, ...], tmp_path: Path) -> None:
    """Within an eighth: what Redis's allocator rounds up to is its own affair."""
    capacity = 64_000 if frame_shape == (4,) else 6_400
    chunk = make_chunk(steps, stack=1, n_step=3, frame_shape=frame_shape)
    server = LittleRedis(tmp_path / "redis")
    try:
        before = server.client.info("memory")["used_memory"]
        replay = RedisReplay(ReplayConfig(capacity=capacity), RedisStore(server.place()))
        replay.adopt(replay.read(afresh=True))
        for _ in range(capacity // steps // 50):
            write = replay.plan([chunk] * 50)
            replay.store.write(write)
            replay.commit(write)
        took = server.client.info("memory")["used_memory"] - before
        replay.store.close()
    finally:
        server.stop()
    shape = ChunkShape(chunk.frames[0].nbytes, stack=1, n_step=3, steps=steps, environments=1)
    assert took == pytest.approx(capacity * bytes_in_redis(shape), rel=0.125)
    beside = replay._contents.held.nbytes + replay._contents.index.nbytes
    assert beside == pytest.approx(capacity * bytes_beside_redis(prioritized=True), rel=0.01)
