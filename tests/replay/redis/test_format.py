"""Format of chunks in Redis: round trips, and errors for anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actorq.replay.redis.config import RedisConfig, bytes_of
from actorq.replay.redis.format import (
    ChunkLayout,
    ChunkRecord,
    Keys,
    decode_rows,
    encode_frames,
    encode_rows,
)
from tests.replay.chunks import changed, make_chunk


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int16, np.bool_])
@pytest.mark.parametrize(("stack", "shape"), [(1, (4,)), (1, ()), (4, (8, 8)), (2, (1, 2, 3, 4, 5, 6))])
def test_a_chunk_comes_back_as_it_was(dtype: Any, stack: int, shape: tuple[int, ...]) -> None:
    chunk = make_chunk(10, stack=stack, n_step=3, frame_shape=shape)
    chunk = changed(chunk, frames=(chunk.frames % 2).astype(dtype))
    rows = decode_rows(encode_rows(chunk))
    assert rows.layout == ChunkLayout.of(chunk)
    back = rows.chunk(bytes(encode_frames(chunk)))
    for name in chunk.__struct_fields__:
        mine, its = getattr(back, name), getattr(chunk, name)
        assert mine.dtype == its.dtype
        np.testing.assert_array_equal(mine, its)


def test_the_layout_of_frames_in_memory_does_not_matter() -> None:
    chunk = make_chunk(5, frame_shape=(3, 2))
    turned = changed(chunk, frames=np.asfortranarray(chunk.frames))
    assert bytes(encode_frames(turned)) == bytes(encode_frames(chunk))


def test_a_value_that_is_no_chunk_has_its_own_error() -> None:
    value = encode_rows(make_chunk(5))
    for wrong in (b"", b"hello", value[:-1], value + b"\0", b"x" + value[1:], b"\0" * len(value)):
        with pytest.raises(ValueError, match="rows"):
            decode_rows(wrong)
    with pytest.raises(ValueError, match="axes"):
        encode_rows(make_chunk(2, frame_shape=(1,) * 7))


def test_a_record_comes_back_as_it_was() -> None:
    record = ChunkRecord(2**62 + 5, 2**40, 64, 70)
    assert ChunkRecord.unpack(record.pack()) == record
    assert record.ids == range(2**40, 2**40 + 64)


def test_both_values_of_a_chunk_have_one_hash_tag_and_other_shards_keys_do_not_fit() -> None:
    keys = Keys("run:replay.1")
    rows, frames = keys.values(255)
    assert (rows, frames) == ("actorq:{run:replay.1:ff}:rows", "actorq:{run:replay.1:ff}:frames")
    assert keys.pattern == "actorq:{run:replay.1:*}:*"  # not of replay.10, nor the shard's own list
    assert keys.list == "actorq:{run:replay.1}:chunks"


def test_sizes_are_read_as_redis_reads_them() -> None:
    sizes = ("0", "5", "5b", "2k", "2kb", "1mb", "2g", "1GB")
    assert [bytes_of(size) for size in sizes] == [0, 5, 5, 2000, 2048, 2**20, 2 * 10**9, 2**30]
    for wrong in ("", "mb", "-1", "1.5gb", "12 mb"):
        with pytest.raises(ValueError, match="size"):
            bytes_of(wrong)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host", "redis://"),
        ("localhost:6379", "redis://"),
        ("redis://:secret@host:6379/0", "password_env"),
        ("unix:///run/redis.sock?password=secret", "password_env"),
    ],
)
def test_a_wrong_url_is_a_problem(url: str, words: str) -> None:
    ((field, sentence),) = RedisConfig(url=url).problems()
    assert field == "url"
    assert words in sentence


@pytest.mark.parametrize("url", ["redis://host", "rediss://user@host:6380/1", "unix:///run/redis.sock"])
def test_a_right_url_is_none(url: str) -> None:
    assert not list(RedisConfig(url=url).problems())


def test_a_password_that_is_not_there_is_the_machines_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RedisConfig(url="redis://host", password_env="NO_SUCH_PASSWORD")
    assert [field for field, _ in config.machine_problems()] == ["password_env"]
    monkeypatch.setenv("NO_SUCH_PASSWORD", "secret")
    assert not list(config.machine_problems())
