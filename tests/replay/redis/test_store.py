"""Redis store on a real Redis in bad conditions: foreign data, no memory, locks, data loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import redis

from actorq.replay.config import ReplayConfig
from actorq.replay.redis import store
from actorq.replay.redis.connection import RedisDownError, RedisFullError
from actorq.replay.redis.format import ChunkRecord, Keys
from actorq.replay.redis.replay import RedisReplay
from actorq.replay.redis.store import (
    GRACE_SECONDS,
    ForeignKeyError,
    KeptError,
    LostError,
    RedisStore,
    TakenOverError,
)
from tests.replay.chunks import make_chunk

from .redis_servers import LittleRedis
from .test_replay import insert

CONFIG = ReplayConfig(capacity=50, min_size=1)
KEYS = Keys("run:replay.0")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LittleRedis]:
    made = LittleRedis(tmp_path_factory.mktemp("redis"))
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def empty(server: LittleRedis) -> None:
    server.client.config_set("maxmemory", 0)
    server.client.config_set("maxmemory-policy", "noeviction")
    server.client.flushall()


@pytest.fixture
def shard(server: LittleRedis) -> Iterator[RedisReplay]:
    made = opened(server)
    yield made
    made.store.close()


def opened(server: LittleRedis, *, afresh: bool = False, shard: str = "run:replay.0") -> RedisReplay:
    replay = RedisReplay(CONFIG, RedisStore(server.place(shard)))
    try:
        replay.adopt(replay.read(afresh=afresh))
    except BaseException:
        replay.store.close()
        raise
    return replay


def test_foreign_keys_are_not_touched(server: LittleRedis) -> None:
    foreign = [
        "actorq",
        "actorq:{run:replay.0",
        "actorq:{run:replay.01:5}:rows",
        "users",
        "actorq:{run:replay.0}:",
    ]
    for key in foreign:
        server.client.set(key, "mine")
    other = opened(server, shard="run:replay.1")
    insert(other, make_chunk(5))
    for afresh in (False, True):
        mine = opened(server, afresh=afresh)
        insert(mine, make_chunk(5))
        if afresh:
            mine.store.delete()
        mine.store.close()
    left = set(server.keys())
    assert set(foreign) <= left
    (record,) = other._contents.held.records
    assert {*Keys("run:replay.1").values(record.name)} <= left
    assert not any(key.startswith("actorq:{run:replay.0:") for key in left)
    other.store.close()


@pytest.mark.parametrize(
    "foreign",
    [
        ("SET", KEYS.owner, "somebody"),
        ("HSET", KEYS.owner, "a", "b"),
        ("SET", KEYS.list, "no list"),
        ("RPUSH", KEYS.list, "no record"),
        ("HSET", KEYS.list, "a", "b"),
    ],
)
def test_foreign_values_under_our_keys_are_reported_and_left_alone(server: LittleRedis, foreign: Any) -> None:
    server.client.execute_command(*foreign)
    for afresh in (False, True):
        with pytest.raises(ForeignKeyError, match="another name"):
            opened(server, afresh=afresh)
    assert server.keys() == [foreign[1]]


@pytest.mark.parametrize(
    "foreign",
    [
        ("HSET", KEYS.rows(7), "a", "b"),
        ("SET", KEYS.rows(7) + ":backup", "b"),
        ("SET", "actorq:{run:replay.0:mine}:rows", "b"),
        ("SET", "actorq:{run:replay.0:7}:notes", "b"),
        ("SET", "actorq:{run:replay.0:7}:rows\n", "b"),
    ],
)
def test_foreign_values_among_chunks_are_reported_and_left_alone(server: LittleRedis, foreign: Any) -> None:
    server.client.execute_command(*foreign)
    server.client.set(KEYS.frames(8), "of a run that was killed")
    for afresh in (False, True):
        with pytest.raises(ForeignKeyError, match="another name"):
            opened(server, afresh=afresh)
    assert server.keys() == sorted([foreign[1], KEYS.owner])
    store = RedisStore(server.place())
    with pytest.raises(ForeignKeyError):
        store.open(10, afresh=True)
    store.delete()
    store.close()
    assert server.keys() == [foreign[1]]


def test_a_value_that_is_no_chunk_is_reported(server: LittleRedis) -> None:
    server.client.set(KEYS.rows(7), "hello")
    server.client.rpush(KEYS.list, ChunkRecord(7, 0, 5, 6).pack())
    with pytest.raises(ForeignKeyError, match="no rows of a chunk"):
        opened(server)
    assert server.client.get(KEYS.rows(7)) == b"hello"


def test_what_a_crash_left_half_done_is_deleted(server: LittleRedis, shard: RedisReplay) -> None:
    (ids,) = insert(shard, make_chunk(5))
    write = shard.plan([make_chunk(6)])
    shard.store._redis.pipeline(list(shard.store._values(write)))  # written, but named in no list
    again = opened(server)
    assert list(again._contents.held.ids) == list(ids)
    (record,) = again._contents.held.records
    assert set(server.keys()) == {KEYS.owner, KEYS.list, *KEYS.values(record.name)}
    again.store.close()


def test_chunks_that_are_not_whole_are_let_go_and_all_before_them(
    server: LittleRedis, shard: RedisReplay
) -> None:
    insert(shard, *(make_chunk(5) for _ in range(6)))
    records = shard._contents.held.records
    server.client.delete(KEYS.frames(records[1].name))
    server.client.setrange(KEYS.frames(records[2].name), 1000, "longer")
    again = opened(server)
    assert again._contents.held.records == records[3:]
    assert again._contents.held.ids == range(15, 30)
    assert server.client.llen(KEYS.list) == 3
    assert not server.client.exists(KEYS.rows(records[0].name))
    insert(again, make_chunk(5))
    assert again.next_id == 35
    again.store.close()


def test_chunks_unlike_later_ones_are_let_go(server: LittleRedis, shard: RedisReplay) -> None:
    for shape in [(1,), (7,), (7,)]:
        insert(shard, make_chunk(5, frame_shape=shape))
    again = opened(server)
    assert again._contents.held.ids == range(5, 15)
    again.expect_right(make_chunk(5, frame_shape=(7,)))
    with pytest.raises(ValueError, match=r"those before it have frames of \w+ \(7,\)"):
        again.expect_right(make_chunk(5, frame_shape=(1,)))
    again.store.close()


def test_a_smaller_capacity_keeps_the_newest(server: LittleRedis, shard: RedisReplay) -> None:
    insert(shard, *(make_chunk(5) for _ in range(6)))
    less = RedisReplay(ReplayConfig(capacity=12, min_size=1), RedisStore(server.place()))
    less.adopt(less.read(afresh=False))
    assert less._contents.held.ids == range(20, 30)
    less.store.close()


def test_a_former_owner_changes_nothing_any_more(server: LittleRedis, shard: RedisReplay) -> None:
    insert(shard, make_chunk(5))
    again = opened(server)
    with pytest.raises(TakenOverError, match="another run"):
        shard.store.write(shard.plan([make_chunk(5)]))
    assert server.client.llen(KEYS.list) == 1
    insert(again, make_chunk(5))
    assert server.client.llen(KEYS.list) == 2
    again.store.close()


def test_a_former_owner_takes_nothing_back(server: LittleRedis, shard: RedisReplay) -> None:
    insert(shard, make_chunk(5))
    shard.adopt(shard.read(afresh=False))
    again = opened(server)
    insert(again, make_chunk(5))
    with pytest.raises(TakenOverError):
        shard.read(afresh=False)
    insert(again, make_chunk(5))
    again.store.close()


def test_a_former_owner_deletes_nothing_of_the_next(server: LittleRedis, shard: RedisReplay) -> None:
    insert(shard, make_chunk(5))
    again = opened(server)
    insert(again, make_chunk(5))
    with pytest.raises(TakenOverError):
        shard.store.delete()
    assert opened(server)._contents.held.records == again._contents.held.records
    again.store.close()


def test_nothing_is_written_once_all_is_deleted(server: LittleRedis, shard: RedisReplay) -> None:
    insert(shard, make_chunk(5))
    write = shard.plan([make_chunk(5)])
    shard.store.delete()
    with pytest.raises(LostError, match="deleted"):
        shard.store.write(write)
    with pytest.raises(LostError, match="deleted"):
        shard.read(afresh=False)
    assert server.keys() == []


def test_an_owner_whose_time_is_over_while_it_opens_deletes_nothing(
    server: LittleRedis, shard: RedisReplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = RedisReplay(CONFIG, RedisStore(server.place()))
    scan = slow.store._redis.scan

    def scan_late(pattern: str) -> list[bytes]:
        again = opened(server)
        insert(again, make_chunk(5))
        again.store.close()
        return scan(pattern)

    monkeypatch.setattr(slow.store._redis, "scan", scan_late)
    with pytest.raises(TakenOverError):
        slow.read(afresh=False)
    assert len(opened(server)) == 5


def test_what_is_kept_is_deleted_by_no_run_that_does_not_keep(server: LittleRedis) -> None:
    keeping = RedisReplay(CONFIG, RedisStore(server.place(), keep=True))
    keeping.adopt(keeping.read(afresh=False))
    insert(keeping, make_chunk(5))
    with pytest.raises(KeptError, match=f"keep = true.*delete {KEYS.owner}"):
        opened(server, afresh=True)
    insert(keeping, make_chunk(5))
    server.client.delete(KEYS.owner)
    assert len(opened(server, afresh=True)) == 0


def test_a_full_redis_makes_room_for_its_owner(server: LittleRedis, shard: RedisReplay) -> None:
    insert(shard, make_chunk(5))
    for number in range(200):
        server.client.set(KEYS.frames(number), b"x" * 20_000)  # of a run that was killed
    server.client.config_set("maxmemory", server.client.info("memory")["used_memory"] - 1_000_000)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        server.client.set("more", "of it")
    again = opened(server)
    insert(again, make_chunk(5))
    assert len(server.keys()) == 2 + 2 * 2


def test_a_write_whose_answer_was_lost_may_be_repeated(server: LittleRedis, shard: RedisReplay) -> None:
    insert(shard, *(make_chunk(10) for _ in range(5)))
    write = shard.plan([make_chunk(10), make_chunk(10)])
    shard.store.write(write)
    shard.store.write(write)
    shard.commit(write)
    assert server.client.llen(KEYS.list) == 5
    again = opened(server)
    assert again._contents.held.records == shard._contents.held.records
    again.store.close()


def test_a_redis_that_came_back_with_less_is_found_out(server: LittleRedis, shard: RedisReplay) -> None:
    insert(shard, make_chunk(5), make_chunk(5))
    server.client.rpop(KEYS.list)
    with pytest.raises(LostError):
        shard.store.write(shard.plan([make_chunk(5)]))
    assert shard.adopt(shard.read(afresh=False)) == 5
    assert len(shard) == 5
    server.client.flushall()
    with pytest.raises(LostError):
        shard.store.write(shard.plan([make_chunk(5)]))
    assert shard.adopt(shard.read(afresh=False)) == 5
    insert(shard, make_chunk(5))
    assert set(shard.draw(100).ids.tolist()) == set(range(15, 20)), "ids are not given twice in a life"
    assert shard.update(np.array([3, 16], np.int64), np.ones(2, np.float32)) == 1


def test_priorities_of_lost_transitions_come_late(server: LittleRedis, shard: RedisReplay) -> None:
    insert(shard, make_chunk(5), make_chunk(5))
    server.client.rpop(KEYS.list)
    shard.adopt(shard.read(afresh=False))
    assert shard.update(np.array([2, 7], np.int64), np.ones(2, np.float32)) == 2, "2 is 10 by now"
    assert shard.update(np.array([10, 14], np.int64), np.ones(2, np.float32)) == 0
    with pytest.raises(ValueError, match="never"):
        shard.update(np.array([15], np.int64), np.ones(1, np.float32))


def test_no_id_is_given_twice_whatever_redis_loses(server: LittleRedis, shard: RedisReplay) -> None:
    insert(shard, make_chunk(5), make_chunk(5))
    state = shard.state()
    server.client.rpop(KEYS.list)
    shard.adopt(shard.read(afresh=False))
    assert set(shard.draw(100).ids.tolist()) == set(range(10, 15))
    insert(shard, make_chunk(5, start=5))
    assert set(shard.draw(100).ids.tolist()) == set(range(10, 20))
    (_, new) = shard._contents.held.records
    assert shard.ids_of(new) == range(15, 20)
    assert shard.next_id == 20
    server.client.rpop(KEYS.list)
    again = opened(server)  # with the first five only, and the memory of the first ten
    again.load_state(state)
    insert(again, make_chunk(5))
    assert set(again.draw(100).ids.tolist()) == set(range(10, 20))
    again.store.close()


@pytest.mark.parametrize(("ids", "values"), [((2,), (3,)), ((2, 1), (2, 1)), ((), ()), ((2,), (2, 1))])
def test_priorities_of_a_wrong_shape_are_refused(
    shard: RedisReplay, ids: tuple[int, ...], values: tuple[int, ...]
) -> None:
    insert(shard, make_chunk(5))
    with pytest.raises(ValueError, match="shape"):
        shard.update(np.zeros(ids, np.int64), np.ones(values, np.float32))


def test_what_was_evicted_stays_a_while(
    server: LittleRedis, shard: RedisReplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(store, "time", SimpleNamespace(monotonic=lambda: now))
    insert(shard, make_chunk(50))
    (first,) = shard._contents.held.records
    for _ in range(40):
        insert(shard, make_chunk(50))
    assert server.client.exists(*KEYS.values(first.name)) == 2
    now += 0.9 * GRACE_SECONDS
    insert(shard, make_chunk(50))
    assert server.client.exists(*KEYS.values(first.name)) == 2
    now += 0.2 * GRACE_SECONDS
    insert(shard, make_chunk(50))
    assert len(server.keys()) == 2 + 2 * 3, "what is held, and what was evicted lately"


def test_what_was_evicted_goes_at_once_if_redis_is_full(server: LittleRedis, shard: RedisReplay) -> None:
    for _ in range(20):
        insert(shard, make_chunk(50, frame_shape=(1000,)))
    server.client.config_set("maxmemory", server.client.info("memory")["used_memory"] - 1_000_000)
    write = shard.plan([make_chunk(50, frame_shape=(1000,))])
    with pytest.raises(RedisFullError):
        shard.store.write(write)
    shard.store.write(write)
    shard.commit(write)
    assert len(server.keys()) == 2 + 2 * 2


def test_a_full_redis_takes_nothing_and_loses_nothing(server: LittleRedis, shard: RedisReplay) -> None:
    (ids,) = insert(shard, make_chunk(20))
    server.client.config_set("maxmemory", server.client.info("memory")["used_memory"] // 2)
    write = shard.plan([make_chunk(20, frame_shape=(1000,))])
    with pytest.raises(RedisFullError, match="maxmemory"):
        shard.store.write(write)
    assert shard.store.memory() > 0
    server.client.config_set("maxmemory", 0)
    shard.store.write(write)
    shard.commit(write)
    assert shard._contents.held.ids == range(ids.start, ids.stop + 20)


def test_a_redis_that_may_evict_is_refused(server: LittleRedis) -> None:
    server.client.config_set("maxmemory", "100mb")
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(RuntimeError, match="noeviction"):
        opened(server)


def test_the_password_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = LittleRedis(tmp_path / "locked", requirepass="open sesame")
    try:
        for password, words in [(None, "is not set"), ("wrong", "refused a command")]:
            if password is not None:
                monkeypatch.setenv("SESAME", password)
            with pytest.raises(RuntimeError, match=words):
                RedisStore(locked.place(password_env="SESAME")).open(10, afresh=False)
        with pytest.raises(RuntimeError, match="refused a command"):
            RedisStore(locked.place()).open(10, afresh=False)
        monkeypatch.setenv("SESAME", "open sesame")
        store = RedisStore(locked.place(password_env="SESAME"))
        assert store.open(10, afresh=False).records == []
        store.close()
    finally:
        locked.stop()


def test_a_redis_that_is_down_has_its_own_error(tmp_path: Path) -> None:
    mortal = LittleRedis(tmp_path / "mortal", appendonly="yes", appendfsync="always")
    shard = opened(mortal)
    (ids,) = insert(shard, make_chunk(5))
    mortal.kill()
    write = shard.plan([make_chunk(6)])
    with pytest.raises(RedisDownError):
        shard.store.write(write)
    mortal.start()
    shard.store.write(write)  # the same connection pool, the same owner
    shard.commit(write)
    assert list(shard._contents.held.ids) == [*ids, *range(5, 11)]
    shard.store.close()
    mortal.stop()
