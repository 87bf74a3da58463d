"""Shards in a real Redis that is killed, fills up, loses data, or holds foreign data."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import redis

from actorq.actors import ActorDied, ActorFailed, ActorSpec, Refused, System
from actorq.replay.ids import shards_of, without_shard
from actorq.replay.redis.config import RedisConfig
from actorq.replay.redis.connection import RedisConnection
from actorq.replay.redis.format import Keys
from actorq.replay.redis.store import RedisStore
from actorq.roles.replay import redis_reader as redis_reading
from actorq.roles.replay.messages import DrawSample, Insert, UpdatePriorities
from actorq.topology import TopologyError, check
from tests.actors.world import AT_ONCE, all_blocked
from tests.replay.chunks import changed, make_chunk
from tests.replay.redis.redis_contents import numbers
from tests.replay.redis.redis_servers import LittleRedis
from tests.roles.actors import Watch

from .redis_shards import RUN, DrawBatch, in_redis, insert, url_of
from .shards import AT_FIRST, Settle, crash

pytestmark = pytest.mark.anyio

SHARD = f"{RUN}:replay.0"


@pytest.fixture
def little(tmp_path: Path) -> Iterator[LittleRedis]:
    made = LittleRedis(tmp_path / "redis", appendonly="yes", appendfsync="always")
    yield made
    made.stop()


def started(specs: Sequence[ActorSpec], watch: Watch | None = None, **rest: Any) -> System:
    return System(specs, AT_ONCE, reports=watch or Watch(), **rest)


async def kill_redis(system: System) -> str:
    """SIGKILL to the run's own server."""
    url = await url_of(system)
    with redis.Redis.from_url(url) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    return url


async def draws(system: System, count: int = 64) -> Any:
    return (await system.ref("reader").ask(DrawBatch(count))).batch


async def test_what_is_drawn_is_what_was_inserted() -> None:
    async with started(in_redis(2)) as system:
        for shard in range(2):
            for number in range(4):
                await system.ref(f"replay.{shard}").ask(insert(10, 100 * shard + 10 * number))
        for _ in range(3):
            batch = await draws(system)
            assert (batch.actions == 100 * shards_of(batch.ids) + without_shard(batch.ids)).all()
            np.testing.assert_array_equal(batch.observations[:, 0], batch.actions)


async def test_new_priorities_decide_what_is_drawn() -> None:
    async with started(in_redis(alpha=1.0, epsilon=1e-30)) as system:
        await system.ref("replay.0").ask(insert(10, 0))
        sharp = np.zeros(10, np.float32)
        sharp[7] = 1.0
        await system.ref("replay.0").tell(UpdatePriorities(np.arange(10), sharp))
        await system.ref("replay.0").ask(Settle())
        assert set((await draws(system)).actions.tolist()) == {7}


async def test_a_killed_redis_loses_nothing_acknowledged(tmp_path: Path) -> None:
    watch = Watch()
    acknowledged: dict[int, int] = {}
    async with started(in_redis(keep=tmp_path / "kept"), watch) as system:

        async def explore(explorer: int) -> None:
            for number in range(12):
                if explorer == 0 and number in (4, 8):
                    await kill_redis(system)
                start = 1000 * explorer + 10 * number
                first = (await system.ref("replay.0").ask(insert(10, start))).first_id
                acknowledged.update({first + i: start + i for i in range(10)})

        async with anyio.create_task_group() as tasks:
            for explorer in range(4):
                tasks.start_soon(explore, explorer)
        found = numbers(await url_of(system), SHARD)
        assert dict(enumerate(found)) == acknowledged
        assert len(found) == 4 * 12 * 10
        batch = await draws(system)
        assert (batch.actions == [acknowledged[i] for i in batch.ids.tolist()]).all()
        assert system.statistics().restarts == 0
    assert watch.all_of("redis_down")[-1] == 0.0
    assert watch.counts["redis_restarts"] == 2


async def test_a_servers_next_incarnation_listens_elsewhere_and_is_found(tmp_path: Path) -> None:
    async with started(in_redis(2, keep=tmp_path / "kept")) as system:
        for shard in range(2):
            await system.ref(f"replay.{shard}").ask(insert(10, 100 * shard))
        await draws(system)
        before = await url_of(system)
        await crash(system.ref("redis"))
        batch = await draws(system)
        assert (batch.actions == 100 * shards_of(batch.ids) + without_shard(batch.ids)).all()
        inserted = await system.ref("replay.0").ask(insert(10, 10))
        url = await url_of(system)
        assert url != before
        assert inserted.first_id == 10
        assert numbers(url, SHARD) == list(range(20))
        # Large caches hide where learners read: what is new isn't in any.
        assert set((await draws(system, 500)).actions.tolist()) > set(range(10, 20))


async def test_a_dead_shard_comes_back_with_all_it_held() -> None:
    async with started(in_redis()) as system:
        ref = system.ref("replay.0")
        for number in range(5):
            await ref.ask(insert(10, 10 * number))
        url = await url_of(system)
        for _ in range(2):
            await crash(ref)
            assert (await ref.ask(insert(10, 500))).first_id == len(numbers(url, SHARD)) - 10
        assert numbers(url, SHARD)[:50] == list(range(50))
        batch = await draws(system)
        assert len(batch.ids) == 64


async def test_a_restarted_shard_has_the_priorities_of_its_last_snapshot() -> None:
    specs = in_redis(alpha=1.0, epsilon=1e-30)
    async with started(specs) as system:
        await system.ref("replay.0").ask(insert(10, 0))
        sharp = np.zeros(10, np.float32)
        sharp[7] = 1.0
        await system.ref("replay.0").tell(UpdatePriorities(np.arange(10), sharp))
        states = await system.states()
        url = await url_of(system)
        # Another run of the name, that has been given the states and the same Redis.
        other = in_redis(url=url, keep=True, alpha=1.0, epsilon=1e-30)
        async with started(other, states=states) as later:
            assert set((await draws(later)).actions.tolist()) == {7}


async def test_a_redis_that_loses_data_makes_the_replay_smaller_and_the_run_continues() -> None:
    async with started(in_redis()) as system:
        for number in range(5):
            await system.ref("replay.0").ask(insert(10, 10 * number))
        await draws(system)
        url = await kill_redis(system)  # it keeps nothing
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(draws, system)  # waits until there is something
            inserted = await system.ref("replay.0").ask(insert(10, 700))
        assert inserted.first_id == 50
        assert numbers(url, SHARD) == list(range(700, 710))
        assert set((await draws(system)).actions.tolist()) <= set(range(700, 710))
        assert (await system.states())["limiter"]["inserted"] == 60, "what was inserted has been inserted"


async def test_what_vanished_is_drawn_again(little: LittleRedis) -> None:
    watch = Watch()
    async with started(in_redis(url=little.url), watch) as system:
        for number in range(4):
            await system.ref("replay.0").ask(insert(10, 10 * number))
        keys = Keys(SHARD)
        names = [int.from_bytes(packed[:8], "little") for packed in little.client.lrange(keys.list, 0, -1)]
        little.client.delete(*keys.values(names[1]))
        batch = await draws(system)
        # What lay before it isn't held any more either: ids have no gaps.
        assert set(batch.actions.tolist()) <= set(range(20, 40))
        assert little.client.llen(keys.list) == 2
    assert watch.counts["vanished"] > 0


@pytest.mark.parametrize("keep", [False, True])
async def test_at_the_end_data_are_kept_or_deleted(little: LittleRedis, keep: bool) -> None:
    little.client.set("somebody's", "key")
    async with started(in_redis(2, url=little.url, keep=keep)) as system:
        await system.ref("replay.0").ask(insert(10, 0))
        await system.ref("replay.1").ask(insert(10, 100))
    left = set(little.keys()) - {"somebody's"}
    assert bool(left) == keep
    assert little.client.exists("somebody's")
    async with started(in_redis(2, url=little.url, keep=keep)) as system:
        assert (await system.ref("replay.0").ask(insert(10, 10))).first_id == 10 * keep
        held = numbers(little.url, SHARD)
    assert held == (list(range(20)) if keep else list(range(10, 20)))


async def test_without_keep_what_a_killed_run_has_left_is_deleted(
    little: LittleRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(RedisStore, "delete", lambda _: None)
        async with started(in_redis(url=little.url)) as system:
            await system.ref("replay.0").ask(insert(10, 0))
    assert numbers(little.url, SHARD) == list(range(10))
    async with started(in_redis(url=little.url)) as system:
        await system.ref("replay.0").ask(insert(10, 50))
        assert numbers(little.url, SHARD) == list(range(50, 60))


async def test_what_is_being_written_at_the_end_is_deleted_too(
    little: LittleRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, stopping = threading.Event(), threading.Event()
    pipeline, delete = RedisConnection.pipeline, RedisStore.delete

    def write_slowly(self: RedisConnection, commands: Sequence[Any]) -> list[Any]:
        if commands[0][0] == "SET":
            writes.set()
            assert stopping.wait(50)
        return pipeline(self, commands)

    def delete_meanwhile(self: RedisStore) -> None:
        stopping.set()
        delete(self)

    monkeypatch.setattr(RedisConnection, "pipeline", write_slowly)
    monkeypatch.setattr(RedisStore, "delete", delete_meanwhile)
    monkeypatch.setattr("actorq.actors.runtime.system.DRAIN_SECONDS", 0.01)  # it writes beyond
    async with started(in_redis(url=little.url)) as system, anyio.create_task_group() as tasks:
        tasks.start_soon(system.ref("replay.0").ask, insert(10, 0))
        await anyio.to_thread.run_sync(writes.wait)
        tasks.cancel_scope.cancel()  # who inserts is gone
    assert little.keys() == []


async def test_one_doubt_is_enough(little: LittleRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, slow = 0, threading.Event()
    opens = RedisStore.open

    def open_slowly(self: RedisStore, capacity: int, *, afresh: bool) -> Any:
        nonlocal opened
        opened += 1
        assert opened == 1 or slow.wait(50)
        return opens(self, capacity, afresh=afresh)

    monkeypatch.setattr(RedisStore, "open", open_slowly)
    async with started(in_redis(url=little.url)) as system:
        for start in range(0, 40, 10):
            await system.ref("replay.0").ask(insert(10, start))
        missing = [int.from_bytes(little.client.lindex(Keys(SHARD).list, 1)[:8], "little")]
        doubt = DrawSample(1, AT_FIRST, 0, 0, missing=np.array(missing))
        for _ in range(5):
            await system.ref("replay.0").ask(doubt)
        slow.set()
        await system.ref("replay.0").ask(insert(10, 40))
    assert opened == 2


async def test_a_reader_backs_off_until_missing_chunks_are_settled(
    little: LittleRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses, enough, opens = list[int](), threading.Event(), RedisStore.open

    def pause(failures: int) -> float:
        pauses.append(failures)
        if failures == 2:
            enough.set()
        return 0.0

    async with started(in_redis(url=little.url)) as system:
        for start in range(0, 40, 10):
            await system.ref("replay.0").ask(insert(10, start))
        name = int.from_bytes(little.client.lindex(Keys(SHARD).list, 1)[:8], "little")
        little.client.delete(*Keys(SHARD).values(name))

        def open_slowly(self: RedisStore, capacity: int, *, afresh: bool) -> Any:
            assert enough.wait(50)
            return opens(self, capacity, afresh=afresh)

        monkeypatch.setattr(RedisStore, "open", open_slowly)
        monkeypatch.setattr(redis_reading, "backoff", pause)
        assert set((await draws(system)).actions.tolist()) <= set(range(20, 40))
    assert pauses == list(range(len(pauses)))


async def test_what_another_run_keeps_is_not_deleted(little: LittleRedis) -> None:
    async with started(in_redis(url=little.url, keep=True)) as system:
        await system.ref("replay.0").ask(insert(10, 0))
        with pytest.raises(ActorFailed, match="is kept for a run of this name"):
            async with started(in_redis(url=little.url)):
                raise AssertionError("it has started")
        assert (await system.ref("replay.0").ask(insert(10, 10))).first_id == 10
    assert numbers(little.url, SHARD) == list(range(20))


async def test_of_two_runs_of_a_name_the_first_ends_and_the_second_has_it_all(little: LittleRedis) -> None:
    first, second = (started(in_redis(url=little.url, keep=True)) for _ in range(2))

    async def both() -> None:
        async with first:
            await first.ref("replay.0").ask(insert(10, 0))
            async with second:
                await second.ref("replay.0").ask(insert(10, 10))
                with suppress(ActorDied):
                    await first.ref("replay.0").ask(insert(10, 20))
                with anyio.CancelScope(shield=True):
                    assert (await second.ref("replay.0").ask(insert(10, 30))).first_id == 20
                await anyio.sleep_forever()

    with pytest.raises(ActorFailed, match="another run writes to"):
        await both()
    assert first.statistics().restarts == 0
    assert numbers(little.url, SHARD) == [*range(20), *range(30, 40)]


async def test_inserts_wait_while_redis_is_down(little: LittleRedis) -> None:
    watch = Watch()
    async with started(in_redis(url=little.url), watch) as system:
        await system.ref("replay.0").ask(insert(10, 0))
        little.kill()
        answers: list[int] = []

        async def explore(start: int) -> None:
            answers.append((await system.ref("replay.0").ask(insert(10, start))).first_id)

        async with anyio.create_task_group() as tasks:
            for explorer in range(3):
                tasks.start_soon(explore, 100 * explorer)
            await watch.readings.has(("redis_down", 1.0))
            reply = await system.ref("replay.0").ask(DrawSample(4, AT_FIRST))
            assert len(reply.sample.ids) == 4, "the index is at hand"
            assert not answers
            little.start()
        assert sorted(answers) == [10, 20, 30]
        assert system.statistics().restarts == 0
    assert watch.all_of("redis_down")[-1] == 0.0


async def test_a_learner_waits_while_redis_is_down(little: LittleRedis) -> None:
    watch = Watch()
    async with started(in_redis(url=little.url), watch) as system:
        await system.ref("replay.0").ask(insert(10, 0))
        little.kill()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(draws, system)
            await all_blocked()
            little.start()


async def test_a_run_stops_in_order_while_redis_is_down(little: LittleRedis) -> None:
    watch = Watch()
    refused: list[str] = []

    async with anyio.create_task_group() as tasks, started(in_redis(url=little.url), watch) as system:
        little.kill()

        async def explore() -> None:
            with pytest.raises(Refused) as refusal:
                await system.ref("replay.0").ask(insert(10, 0))
            refused.append(refusal.value.reason)

        tasks.start_soon(explore)
        await watch.readings.has(("redis_down", 1.0))
    assert refused == ["the run is stopping"]
    assert system.statistics().dead_letters == 0


async def test_what_is_not_ours_ends_the_run_before_it_begins(little: LittleRedis) -> None:
    little.client.set(Keys(SHARD).list, "mine")
    with pytest.raises(ActorFailed, match=r"not actorq's; delete the key"):
        async with started(in_redis(url=little.url)):
            raise AssertionError("it has started")
    assert little.client.get(Keys(SHARD).list) == b"mine"


async def test_a_redis_that_can_never_hold_the_capacity_ends_the_run() -> None:
    system = started(in_redis(maxmemory="3mb", capacity=100_000))

    async def fill() -> None:
        async with system:
            for number in range(1000):
                chunk = make_chunk(10, start=10 * number, frame_shape=(1000,))
                with suppress(ActorDied):
                    await system.ref("replay.0").ask(Insert(chunk, AT_FIRST))

    with pytest.raises(ActorFailed, match="make maxmemory larger or the capacity"):
        await fill()
    assert system.statistics().restarts == 0


async def test_a_redis_that_is_full_of_other_things_is_waited_for(little: LittleRedis) -> None:
    watch = Watch()
    little.client.set("other things", b"x" * 1_000_000)
    async with started(in_redis(url=little.url, capacity=100), watch) as system:
        await system.ref("replay.0").ask(insert(10, 0))
        little.client.config_set("maxmemory", 1_000_000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(system.ref("replay.0").ask, insert(10, 10))
            await watch.readings.has(("redis_down", 1.0))
            assert little.client.llen(Keys(SHARD).list) == 1
            little.client.config_set("maxmemory", "100mb")
        assert numbers(little.url, SHARD) == list(range(20))
        assert system.statistics().restarts == 0
    assert watch.all_of("redis_down")[-1] == 0.0


async def test_a_wrong_chunk_is_refused_and_changes_nothing() -> None:
    wrong = [
        changed(make_chunk(5, frame_shape=(1,)), discounts=np.full(5, 2, np.float32)),
        changed(make_chunk(5, frame_shape=(1,)), priorities=np.full(5, np.nan, np.float32)),
        make_chunk(1001, frame_shape=(1,)),
        make_chunk(5, frame_shape=(7,)),
    ]
    async with started(in_redis()) as system:
        await system.ref("replay.0").ask(insert(5, 0))
        for chunk in wrong:
            with pytest.raises(Refused, match="chunk"):
                await system.ref("replay.0").ask(Insert(chunk, AT_FIRST))
        assert (await system.ref("replay.0").ask(insert(5, 5))).first_id == 5
        assert system.statistics().restarts == 0


async def test_chunks_that_wait_for_redis_are_alike(little: LittleRedis) -> None:
    watch = Watch()
    async with started(in_redis(url=little.url), watch) as system:
        little.kill()
        async with anyio.create_task_group() as tasks:
            chunk = make_chunk(10, frame_shape=(7,))
            tasks.start_soon(system.ref("replay.0").ask, Insert(chunk, AT_FIRST))
            await watch.readings.has(("redis_down", 1.0))
            with pytest.raises(Refused, match=r"those before it have frames of \w+ \(7,\)"):
                await system.ref("replay.0").ask(insert(10, 10))
            little.start()


SERVER = {"role": "redis_server"}


@pytest.mark.parametrize(
    ("shard", "others", "words"),
    [
        ({"config": {"store": "redis"}}, {}, "redis_server"),
        ({"config": {"store": "memory"}, "ports": {"redis": "redis"}}, {"redis": SERVER}, "store"),
        ({"config": {"redis": {"keep": True}}}, {}, "store"),
        (
            {"config": {"store": "redis", "redis": {"url": "redis://h"}}, "ports": {"redis": "redis"}},
            {"redis": SERVER},
            "leave one of them out",
        ),
        (
            {"config": {"store": "redis", "redis": {"keep": True}}, "ports": {"redis": "redis"}},
            {"redis": SERVER},
            "settings of its own",
        ),
        ({"config": {"store": "redis", "redis": {"url": "http://h"}}}, {}, "redis://"),
        ({"config": {"store": "redis"}}, {"redis": {**SERVER, "config": {"maxmemory": "much"}}}, "much"),
        ({"config": {"store": "redis"}}, {"redis": {**SERVER, "config": {"keep": ""}}}, "keep"),
    ],
)
def test_settings_that_contradict_each_other_are_problems(
    shard: dict[str, Any], others: dict[str, Any], words: str
) -> None:
    with pytest.raises(TopologyError, match=words):
        check({"actors": {**others, "replay": {"role": "replay", **shard}}})


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://[bad", "redis://HOST:PORT"),
        ("redis://h:port", "redis://HOST:PORT"),
        ("redis://h:99999", "redis://HOST:PORT"),
        ("redis://h:0", "port 0"),
        ("redis://", "no host"),
        ("unix://", "unix:///PATH"),
        ("unix://redis.sock", "unix:///PATH"),
        ("h:6379", "begin with redis://"),
        ("http://me:secret@h", "begin with redis://"),
        ("redis://:secret@h", "password_env"),
        ("redis://h?password=secret", "password_env"),
        ("redis://me:sec/ret@h:1", "redis://HOST:PORT"),
        ("redis://me:12/secret@h:1", "by its number"),
        ("redis://me:12?secret@h:1", "there are db"),
        ("redis://me:12#secret@h:1", "a #"),
        ("redis://h?foo=1", "there are db"),
        ("redis://h?db=first", "option db"),
        ("redis://h/first", "by its number"),
        ("rediss://h?ssl_cert_reqs=maybe", "option ssl_cert_reqs"),
        ("redis://h?ssl_cert_reqs=none", "there are db"),
    ],
)
def test_an_address_that_is_none_is_a_problem_and_not_repeated(url: str, words: str) -> None:
    with pytest.raises(TopologyError, match=words) as error:
        check({"actors": {"replay": {"role": "replay", "config": {"store": "redis", "redis": {"url": url}}}}})
    assert "actors.replay.config.redis.url" in str(error.value)
    assert "sec" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://me@h:1/3",
        "redis://[::1]:6379?db=1",
        "unix:///tmp/redis.sock?db=1",
        "rediss://h:1/0?ssl_ca_certs=ca.pem&ssl_cert_reqs=required",
    ],
)
def test_an_address_of_redis_is_right(url: str) -> None:
    assert not list(RedisConfig(url=url).problems())


def test_a_deterministic_run_has_no_server_of_its_own() -> None:
    with pytest.raises(TopologyError, match="redis can't take part: a server's answers come"):
        check({"deterministic": True, "actors": {"redis": SERVER}})


def test_the_server_comes_before_the_shards() -> None:
    shard = {"role": "replay", "config": {"store": "redis"}, "ports": {"redis": "redis"}}
    with pytest.raises(TopologyError, match="earlier"):
        check({"actors": {"replay": shard, "redis": SERVER}})
    check({"actors": {"redis": SERVER, "replay": shard}})
