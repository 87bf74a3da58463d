"""Redis reader on a real Redis: small and large chunks, cached and missing ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from actorq.replay.chunk import Chunk, Sample
from actorq.replay.config import ReplayConfig
from actorq.replay.redis.chunk_cache import ChunkCache
from actorq.replay.redis.format import Keys
from actorq.replay.redis.reader import MissingError, RedisReader
from actorq.replay.redis.replay import RedisReplay
from actorq.replay.redis.row_cache import RowCache
from actorq.replay.redis.sample_refs import SampleRefs
from actorq.replay.redis.store import RedisStore
from tests.replay.chunks import changed, make_chunk

from .redis_servers import LittleRedis
from .test_replay import insert

LARGE = (40, 40)  # in stacks of 4: a chunk of 20 has more than 64 KiB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LittleRedis]:
    made = LittleRedis(tmp_path_factory.mktemp("redis"))
    yield made
    made.stop()


class Filled:
    """A shard that holds some chunks, and what it has located of them."""

    def __init__(self, server: LittleRedis, name: str, chunks: list[Chunk], cache_mb: int = 64) -> None:
        self.place = server.place(name, cache_mb)
        self.chunks = chunks
        self.replay = RedisReplay(ReplayConfig(capacity=10_000), RedisStore(self.place), seed=1)
        self.replay.adopt(self.replay.read(afresh=True))
        self.firsts = [insert(self.replay, chunk)[0].start for chunk in chunks]

    def expect(self, got: Sample, drawn: SampleRefs, start: int = 0) -> None:
        for row, i in enumerate(drawn.ids.tolist(), start):
            number = int(np.searchsorted(self.firsts, i, side="right")) - 1
            chunk, position = self.chunks[number], i - self.firsts[number]
            for states, index in (
                (got.observations, chunk.index),
                (got.next_observations, chunk.next_index),
            ):
                frames = chunk.frames[index[position]]
                np.testing.assert_array_equal(states[row], frames if len(frames) > 1 else frames[0])
            assert got.actions[row] == chunk.actions[position]
            assert got.returns[row] == chunk.returns[position]
            assert got.discounts[row] == chunk.discounts[position]


@pytest.fixture
def reader() -> Iterator[RedisReader]:
    made = RedisReader()
    yield made
    made.close()


def chunks_of(count: int, **shape: Any) -> list[Chunk]:
    return [make_chunk(20, start=100 * number, n_step=3, **shape) for number in range(count)]


def test_small_chunks_are_read_once(server: LittleRedis, reader: RedisReader) -> None:
    shard = Filled(server, "run:small", chunks_of(30, stack=2))
    drawn = shard.replay.draw(64)
    assert reader.cached([drawn]) is None
    shard.expect(reader.read([drawn]), drawn)
    assert isinstance(reader._cache, ChunkCache)
    calls = server.client.info("commandstats")["cmdstat_get"]["calls"]
    kept = reader.cached([drawn])
    assert kept is not None
    shard.expect(kept, drawn)
    again = reader.read([drawn])
    shard.expect(again, drawn)
    assert server.client.info("commandstats")["cmdstat_get"]["calls"] == calls
    shard.replay.store.close()


@pytest.mark.parametrize("cache_mb", [0, 64])
@pytest.mark.parametrize("stack", [1, 4])
def test_of_large_chunks_only_the_frames_wanted_are_read(
    server: LittleRedis, reader: RedisReader, stack: int, cache_mb: int
) -> None:
    shape = LARGE if stack > 1 else (80, 80)
    shard = Filled(server, "run:large", chunks_of(12, stack=stack, frame_shape=shape), cache_mb)
    for _ in range(3):
        drawn = shard.replay.draw(32)
        before = server.client.info("stats")["total_net_output_bytes"]
        shard.expect(reader.read([drawn]), drawn)
        read = server.client.info("stats")["total_net_output_bytes"] - before
        frames = 32 * (stack + 3) * 4 * shape[0] * shape[1]
        assert read < frames + 300_000  # rows, and what Redis says of itself
        assert isinstance(reader._cache, RowCache)
        assert reader.cached([drawn]) is None
    shard.replay.store.close()


def test_frames_may_be_anywhere_in_a_large_chunk(server: LittleRedis, reader: RedisReader) -> None:
    rng = np.random.default_rng(0)
    chunks = [
        changed(
            chunk,
            index=rng.integers(0, len(chunk.frames), chunk.index.shape, np.int32),
            next_index=rng.integers(0, len(chunk.frames), chunk.index.shape, np.int32),
        )
        for chunk in chunks_of(6, stack=4, frame_shape=LARGE)
    ]
    shard = Filled(server, "run:anywhere", chunks)
    drawn = shard.replay.draw(100)
    shard.expect(reader.read([drawn]), drawn)
    shard.replay.store.close()


def test_many_shards_are_read_together(server: LittleRedis, reader: RedisReader) -> None:
    shards = [Filled(server, f"run:many.{number}", chunks_of(5 + number)) for number in range(3)]
    draws = [shard.replay.draw(count) for shard, count in zip(shards, (7, 0, 9), strict=True)]
    got = reader.read(draws)
    shards[0].expect(got, draws[0])
    shards[2].expect(got, draws[2], start=7)
    for shard in shards:
        shard.replay.store.close()


def test_a_cache_that_is_too_small_for_a_batch_will_do(server: LittleRedis, reader: RedisReader) -> None:
    shard = Filled(server, "run:tiny", chunks_of(40), cache_mb=0)
    for _ in range(3):
        drawn = shard.replay.draw(64)
        shard.expect(reader.read([drawn]), drawn)
    shard.replay.store.close()


def test_what_leaves_the_cache_is_read_again(server: LittleRedis, reader: RedisReader) -> None:
    """Chunks of 20 with 4 KB: some 240 of them fit."""
    shard = Filled(server, "run:leaving", chunks_of(400, frame_shape=(46,)), cache_mb=1)
    for _ in range(30):
        drawn = shard.replay.draw(64)
        shard.expect(reader.read([drawn]), drawn)
    cache: Any = reader._cache
    assert 100 < len(cache._firsts) < 300
    assert len(cache._order) == len(cache._firsts)
    shard.replay.store.close()


@pytest.mark.parametrize("shape", [(2,), LARGE])
def test_what_is_gone_is_named(server: LittleRedis, reader: RedisReader, shape: tuple[int, ...]) -> None:
    shard = Filled(server, "run:gone", chunks_of(4, stack=4, frame_shape=shape))
    drawn = shard.replay.draw(64)
    gone = int(drawn.chunks[0])
    server.client.delete(*Keys("run:gone").values(gone))
    for _ in range(2):
        with pytest.raises(MissingError) as raised:
            reader.read([drawn])
        assert raised.value.names == {gone}
    stay = drawn.chunks != gone
    left = SampleRefs(
        drawn.ids[stay], drawn.probabilities[stay], drawn.chunks[stay], drawn.rows[stay], drawn.place
    )
    assert len(reader.read([left]).actions) == len(left.rows)
    shard.replay.store.close()
