"""The memory of a shard's process doesn't follow what it holds in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actorq.replay.redis.config import RedisConfig
from actorq.roles.replay.messages import DrawSample, Insert
from tests.replay.chunks import changed, make_chunk
from tests.replay.redis.redis_servers import LittleRedis
from tests.roles.replay.redis_shards import in_redis
from tests.roles.replay.shards import AT_FIRST

from .actors import Board
from .nodes import actor, board, running

__all__ = ["board"]

CHUNK = 64
CHUNKS = 800


@pytest.fixture
def little(tmp_path: Path) -> Iterator[LittleRedis]:
    made = LittleRedis(tmp_path / "redis")
    yield made
    made.stop()


def private_memory(pid: int) -> int:
    """Bytes that are the process's own, less what it shares with others, such as messages on their way."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_memory_does_not_follow_the_store(
    anyio_backend: Any, board: Board, little: LittleRedis
) -> None:
    chunk = make_chunk(CHUNK, stack=4, n_step=3, frame_shape=(84, 84))
    chunk = changed(chunk, frames=np.random.default_rng(0).integers(0, 256, chunk.frames.shape, np.uint8))
    capacity = CHUNK * CHUNKS
    specs = in_redis(url=little.url, node="shard", capacity=capacity, redis=RedisConfig(url=little.url))
    async with running(anyio_backend, [*specs, actor("on-shard", "shard", board)], timeout=55) as system:
        pid = int(await board.reads("on-shard starting"))
        shard = system.ref("replay.0")
        memory: list[int] = []
        for number in range(CHUNKS + CHUNKS // 10):
            await shard.ask(Insert(chunk, AT_FIRST))
            if number % (CHUNKS // 10) == 0:
                reply: Any = await shard.ask(DrawSample(256, AT_FIRST))
                assert len(reply.sample.ids) == 256
                memory.append(private_memory(pid))
        held = little.client.info("memory")["used_memory"]
    growth = (max(memory) - memory[1]) / 2**20
    print(f"{held / 2**20:.0f} MB in Redis; the shard's process grew by {growth:.1f} MB")
    assert held > 350 * 2**20
    assert growth < 16, [each // 2**20 for each in memory]
