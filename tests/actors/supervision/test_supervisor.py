"""Supervisor: a crash in each place, under each policy and strategy; limits, back-off, state and reports."""

import asyncio
import logging
import traceback
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import anyio
import pytest
from anyio.lowlevel import checkpoint

from actorq.actors import (
    Actor,
    ActorDied,
    ActorFailed,
    Fatal,
    GroupSpec,
    Message,
    Ref,
    RestartLimits,
    RestartPolicy,
    Strategy,
    System,
    handles,
)
from actorq.actors.runtime.actor_cell import HEALTHY_SECONDS
from actorq.actors.runtime.incarnation import Crash
from actorq.actors.supervision.node_agent import _as_text
from actorq.actors.supervision.remote_node import _crash
from actorq.testing import Record, run_virtually
from tests.actors.messages import Add, Echo, Text, Total, Visit
from tests.actors.misbehaving import (
    GetPokes,
    Misbehaving,
    Misbehaviour,
    Poke,
    PokeBeside,
    PokeInThread,
    Pokes,
    StartTask,
)
from tests.actors.world import World, fresh, spec

POLICIES: tuple[RestartPolicy, ...] = get_args(RestartPolicy)

TRIGGERS: dict[str, Message] = {
    "handler": Poke(),
    "concurrent handler": PokeBeside(),
    "thread handler": PokeInThread(),
    "task": StartTask(),
}
"""What makes the actor crash there; in the other places it crashes by itself."""

WHERE = {
    "handler": "poke over Poke",
    "concurrent handler": "poke_beside over PokeBeside",
    "thread handler": "poke_in_thread over PokeInThread",
    "task": "_task",
    "state": "state over SnapshotRequest",
}
"""How the place is told, where that is not its name."""


class Told(Misbehaving):
    """Records its lives."""

    incarnations: ClassVar[Record[str]]

    async def on_start(self) -> None:
        self.incarnations.add("start")
        await super().on_start()

    async def on_stop(self) -> None:
        self.incarnations.add("stop")
        await super().on_stop()


LIVING = ["__init__", "on_start", "load_state", "run", "task", "state", *list(TRIGGERS)[:3]]


@pytest.mark.anyio
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("place", LIVING)
async def test_a_crash_in_each_place_under_each_policy(
    world: World, place: str, policy: RestartPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    cls = fresh(Told, incarnations=Record())
    me = spec("it", cls, config=cls.Config(place=place), restart=policy)
    if policy == "always":  # its loop would end, and it with it
        me = spec("it", fresh(cls, run=_run_on), config=cls.Config(place=place), restart=policy)
    async with world.system(me, states={"it": {"pokes": 10}}) as system:
        it = system.ref("it")
        if place in TRIGGERS:
            await it.tell(TRIGGERS[place])
        if place == "state":
            await system.states()
        if policy == "never":
            assert "and its restart policy is never" in await _last_words(it)
        else:
            await cls.incarnations.reaches({"__init__": 1}.get(place, 2))
            assert await it.ask(GetPokes()) == Pokes(10)  # the last snapshot
        (statistics,) = system.statistics().actors
        assert statistics.crashes == 1
        assert statistics.restarts == (policy != "never")
        begun = place in TRIGGERS and place != "task"
        if policy != "never":
            assert (system.in_doubt, system.undelivered) == (begun, 0)
    starts = {"__init__": 0, "on_start": 1}.get(place, 1) + (policy != "never")
    stops = policy != "never"
    assert cls.incarnations.entries == ["start"] * starts + ["stop"] * stops
    (crash,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert crash.getMessage() == f"it crashed in {WHERE.get(place, place)}: Misbehaviour: {place}"
    assert crash.exc_info is not None


async def _last_words(it: Ref[GetPokes]) -> str:
    """What asking fails with, once it does."""
    while True:
        try:
            await it.ask(GetPokes())
        except ActorDied as error:
            return str(error)


async def _run_on(self: Misbehaving) -> None:
    self._may_crash("run")
    await anyio.sleep_forever()


@pytest.mark.anyio
@pytest.mark.parametrize("policy", POLICIES)
async def test_a_crash_in_on_stop_fails_the_run_once_all_have_stopped(
    world: World, policy: RestartPolicy
) -> None:
    cls, other = fresh(Told, incarnations=Record()), fresh(Told, incarnations=Record())
    me = spec("it", fresh(cls, run=_run_on), config=cls.Config(place="on_stop"), restart=policy)
    with pytest.raises(ActorFailed, match="'it' crashed in on_stop: Misbehaviour: on_stop while") as failure:
        async with world.system(spec("other", fresh(other, run=_run_on)), me):
            pass
    assert isinstance(failure.value.__cause__, Misbehaviour)
    assert cls.incarnations.entries == other.incarnations.entries == ["start", "stop"]


class Forsaken(Actor):
    """Waits for tasks of asyncio's that others have cancelled."""

    class Config(Actor.Config):
        place: str

    async def _wait(self, place: str) -> None:
        if self.config.place == place and not self.restarts:
            raise asyncio.CancelledError

    async def on_start(self) -> None:
        await self._wait("on_start")

    async def run(self) -> None:
        await self._wait("run")

    @handles
    async def poke(self, message: Poke) -> None:
        await self._wait("poke")

    @handles(concurrent=2)
    async def poke_beside(self, message: PokeBeside) -> None:
        await self._wait("poke_beside")

    @handles
    async def restarted(self, request: GetPokes) -> Pokes:
        return Pokes(self.restarts)


@pytest.mark.parametrize("place", ["on_start", "run", "poke", "poke_beside"])
def test_a_cancelled_error_not_meant_for_the_actor_is_a_crash(
    world: World, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        config = Forsaken.Config(place=place)
        async with world.system(spec("it", Forsaken, config=config)) as system:
            await system.ref("it").tell(Poke())
            await system.ref("it").tell(PokeBeside())
            while not system.statistics().actors[0].restarts:
                await checkpoint()
            assert await system.ref("it").ask(GetPokes()) == Pokes(1)
            assert system.statistics().actors[0].crashes == 1

    anyio.run(run, backend="asyncio")
    assert f"it crashed in {place}" in caplog.text


@pytest.mark.anyio
async def test_always_restarts_an_actor_whose_loop_ended_and_on_failure_does_not(world: World) -> None:
    class Brief(Told):
        async def run(self) -> None:
            if self.restarts == 2:
                await anyio.sleep_forever()

    cls = fresh(Brief, incarnations=Record())
    async with world.system(spec("it", cls, restart="always")) as system:
        await cls.incarnations.reaches(5)
        assert cls.incarnations.entries == ["start", "stop", "start", "stop", "start"]
        assert system.statistics().restarts == 2
        assert system.statistics().actors[0].crashes == 0
    assert system.statistics().dead_letters == 0


# Strategies


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [("one-for-one", ["b"]), ("one-for-all", ["a", "b", "c"]), ("rest-for-one", ["b", "c"])],
)
async def test_restarted_actors(world: World, strategy: Strategy, restarted: list[str]) -> None:
    incarnations = Record[str]()

    class Member(Misbehaving):
        async def on_start(self) -> None:
            incarnations.add(f"{self.name} starts")

        async def on_stop(self) -> None:
            incarnations.add(f"{self.name} stops")

    group = GroupSpec(name="team", strategy=strategy, limits=RestartLimits(backoff_seconds=0.0))
    names = ["a", "b", "c", "x"]
    config = Misbehaving.Config(place="handler")
    specs = [
        spec(name, Member, config=config if name == "b" else None, group="team" if name != "x" else "")
        for name in names
    ]
    async with world.system(*specs, groups=[group]) as system:
        await incarnations.reaches(4)
        await system.ref("b").tell(Poke())
        stopped = [name for name in reversed(restarted) if name != "b"]
        await incarnations.reaches(4 + len(stopped) + len(restarted))
        assert incarnations.entries[4:] == [
            *(f"{name} stops" for name in stopped),
            *(f"{name} starts" for name in restarted),
        ]
        for name in names:
            assert await system.ref(name).ask(GetPokes()) == Pokes(0)
        statistics = {actor.name: actor for actor in system.statistics().actors}
        assert [name for name in names if statistics[name].restarts] == restarted
        assert [name for name in names if statistics[name].crashes] == ["b"]
    assert incarnations.entries[-4:] == ["x stops", "c stops", "b stops", "a stops"]


@pytest.mark.anyio
async def test_two_crashes_at_once_in_a_group_are_one_restart_of_all(world: World) -> None:
    gate, incarnations = anyio.Event(), Record[str]()

    class Member(Actor):
        async def on_start(self) -> None:
            incarnations.add(self.name)

        @handles
        async def text(self, message: Text) -> None:
            await gate.wait()
            raise RuntimeError(message.text)

        @handles(concurrent=1)
        async def echo(self, request: Echo) -> Text:
            return Text(request.text)

    group = GroupSpec(name="g", strategy="one-for-all", limits=RestartLimits(2, backoff_seconds=0.0))
    async with world.system(
        spec("a", Member, group="g"), spec("b", Member, group="g"), groups=[group]
    ) as system:
        for name in "ab":
            await system.ref(name).tell(Text("crash"))
        await world.still(system)
        gate.set()
        for name in "ab":
            assert await system.ref(name).ask(Echo(name)) == Text(name)
        await world.still(system)
        assert incarnations.entries[-2:] == ["a", "b"]
        assert all(actor.alive for actor in system.statistics().actors)


@pytest.mark.anyio
async def test_a_crash_while_its_group_waits_for_it_to_answer_begins_the_recovery_anew(world: World) -> None:
    """B's on_start asks A, which then crashes in its loop: A comes back only if B's start is given up."""
    incarnations, asked = Record[str](), anyio.Event()

    class A(Actor):
        async def on_start(self) -> None:
            incarnations.add("a")

        async def run(self) -> None:
            if self.restarts == 1:
                await asked.wait()
                raise RuntimeError("in its loop")

        @handles
        async def echo(self, request: Echo) -> Text:
            if self.restarts == 1:
                asked.set()
                await anyio.sleep_forever()
            return Text("")

        @handles
        async def text(self, message: Text) -> None:
            raise RuntimeError("told to")

    class B(Actor):
        a: Ref[Echo]

        async def on_start(self) -> None:
            try:
                await self.a.ask(Echo(""))
            except ActorDied:
                await anyio.sleep_forever()
            incarnations.add("b")

    group = GroupSpec(name="g", strategy="rest-for-one", limits=RestartLimits(backoff_seconds=0.0))
    async with world.system(
        spec("a", A, group="g"), spec("b", B, {"a": "a"}, group="g"), groups=[group]
    ) as system:
        await system.ref("a").tell(Text("crash"))
        assert await incarnations.reaches(5) == ["a", "b", "a", "a", "b"]


@pytest.mark.anyio
async def test_restart_never_holds_within_a_group(world: World) -> None:
    group = GroupSpec(name="g", strategy="one-for-all", limits=RestartLimits(backoff_seconds=0.0))
    config = Misbehaving.Config(place="handler")
    async with world.system(
        spec("a", Misbehaving, config=config, group="g"),
        spec("b", Misbehaving, restart="never", group="g"),
        groups=[group],
    ) as system:
        await system.ref("a").tell(Poke())
        assert await system.ref("a").ask(GetPokes()) == Pokes(0)
        with pytest.raises(ActorDied, match="b was stopped with its group, and its restart policy is never"):
            await system.ref("b").ask(GetPokes())


# Limits


@pytest.mark.anyio
@pytest.mark.parametrize("allowed", [0, 2])
async def test_past_the_limit_the_run_stops_with_the_actors_error_as_cause(
    world: World, allowed: int
) -> None:
    cls, incarnations = fresh(Told, incarnations=Record(), run=_run_on), Record[str]()
    other = fresh(Told, incarnations=incarnations, run=_run_on)
    limits = RestartLimits(max_restarts=allowed, backoff_seconds=0.0)
    config = cls.Config(place="run", times=99)
    cancelled = anyio.Event()
    system = world.system(
        spec("other", other), spec("it", cls, config=config), groups=[GroupSpec(limits=limits)]
    )

    async def body() -> None:
        async with system:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.set()

    with pytest.raises(ActorFailed, match=rf"'it' crashed in run: .* restarted {allowed} times") as failure:
        await body()
    assert cancelled.is_set()
    assert isinstance(failure.value.__cause__, Misbehaviour)
    assert "_may_crash" in "".join(traceback.format_exception(failure.value.__cause__))
    assert failure.value.actor == "it"
    assert system.statistics().restarts == allowed
    assert incarnations.entries == ["start", "stop"]


class Harmful(Actor):
    async def run(self) -> None:
        raise Fatal("it isn't mine any more")


@pytest.mark.anyio
async def test_fatal_ends_the_run_at_once(world: World) -> None:
    system = world.system(spec("it", Harmful))
    with pytest.raises(ActorFailed, match=r"'it' crashed in run: Fatal: it isn't mine any more$") as failure:
        async with system:
            await anyio.sleep_forever()
    assert isinstance(failure.value.__cause__, Fatal)
    assert system.statistics().restarts == 0


def test_that_it_must_not_be_started_again_is_known_elsewhere() -> None:
    told = [_crash(_as_text(Crash(error, "run", None))).fatal for error in (Fatal("so"), ValueError("so"))]
    assert told == [True, False]


@pytest.mark.anyio
async def test_an_actor_that_cannot_start_fails_the_run_before_its_body(world: World) -> None:
    config = Misbehaving.Config(place="__init__", times=99)
    later = fresh(Told, incarnations=Record())
    with pytest.raises(ActorFailed, match="'it' crashed in __init__") as failure:
        async with world.system(spec("it", Misbehaving, config=config), spec("later", later)):
            pytest.fail("it began")
    assert later.incarnations.entries == []
    assert isinstance(failure.value.__cause__, Misbehaviour)


class Crashing(Actor):
    """Crashes when told; notes when it was started."""

    started: ClassVar[Record[float]]

    async def on_start(self) -> None:
        self.started.add(self.now())

    @handles
    async def text(self, message: Text) -> None:
        raise RuntimeError(message.text)

    @handles
    async def add(self, message: Add) -> None:
        self.progress("updates")


LIMITS = RestartLimits(max_restarts=2, within_seconds=60.0, backoff_seconds=1.0, backoff_max_seconds=3.0)

Backend = Literal["asyncio", "trio"]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    name: Backend = request.param
    return name


def crashing(limits: RestartLimits = LIMITS, seed: int = 0) -> tuple[System, Record[float]]:
    cls = fresh(Crashing, started=Record())
    return System([spec("it", cls)], [GroupSpec(limits=limits)], seed=seed), cls.started


def test_restarts_count_within_a_time_only(backend: Backend) -> None:
    async def crash_slowly() -> None:
        system, started = crashing()
        async with system:
            for incarnation in range(2, 7):
                await system.ref("it").tell(Text("again"))
                await started.reaches(incarnation)
                await anyio.sleep(31)

    async def crash_quickly() -> None:
        system, started = crashing()
        async with system:
            for incarnation in range(2, 7):
                await system.ref("it").tell(Text("again"))
                await started.reaches(incarnation)
                await anyio.sleep(20)

    run_virtually(backend, crash_slowly)
    with pytest.raises(ActorFailed, match="restarted 2 times within 60 s already"):
        run_virtually(backend, crash_quickly)


async def crash_with_progress(after_seconds: float) -> None:
    system, started = crashing()
    async with system:
        for incarnation in range(2, 7):
            await anyio.sleep(after_seconds)
            await system.ref("it").tell(Add(1))
            await system.ref("it").tell(Text("again"))
            await started.reaches(incarnation)


def test_progress_resets_the_count(backend: Backend) -> None:
    run_virtually(backend, partial(crash_with_progress, HEALTHY_SECONDS))


def test_progress_at_once_does_not_reset_the_count(backend: Backend) -> None:
    """A learner that gets one update done before it crashes, each time, gets nowhere."""
    with pytest.raises(ActorFailed, match="restarted 2 times within 60 s already"):
        run_virtually(backend, partial(crash_with_progress, 0.9 * HEALTHY_SECONDS))


def pauses(backend: Backend, seed: int) -> list[float]:
    async def crash() -> list[float]:
        limits = RestartLimits(99, 1e9, LIMITS.backoff_seconds, LIMITS.backoff_max_seconds)
        system, started = crashing(limits, seed)
        waited = []
        async with system:
            for incarnation in range(2, 6):
                before = anyio.current_time()
                await system.ref("it").tell(Text("again"))
                await started.reaches(incarnation)
                waited.append(started.entries[-1] - before)
        return waited

    return run_virtually(backend, crash)


def test_the_back_off_doubles_up_to_its_bound_with_jitter(backend: Backend) -> None:
    waited = pauses(backend, seed=1)
    for pause, longest in zip(waited, (1.0, 2.0, 3.0, 3.0), strict=True):
        assert longest / 2 <= pause <= longest
    assert waited == pytest.approx(pauses(backend, seed=1))
    assert waited != pytest.approx(pauses(backend, seed=2))


def test_snapshots_by_the_clock(backend: Backend) -> None:
    async def run() -> None:
        config = Misbehaving.Config(place="task")
        me = spec("it", Misbehaving, config=config, snapshot_every_seconds=10.0)
        async with System([me]) as system:
            it = system.ref("it")
            await it.tell(Poke())
            await anyio.sleep(11)
            await it.tell(Poke())
            await it.tell(StartTask())
            await anyio.sleep(1)
            assert await it.ask(GetPokes()) == Pokes(1)

    run_virtually(backend, run)


# What a life leaves to the next


@pytest.mark.anyio
async def test_mailbox_and_refs_outlive_a_crash(world: World) -> None:
    config = Misbehaving.Config(place="handler")
    async with world.system(spec("it", Misbehaving, config=config)) as system:
        it = system.ref("it")
        for _ in range(5):
            await it.tell(Poke())
        assert await it.ask(GetPokes()) == Pokes(4)
        assert system.statistics().actors[0].mailbox.handled == 5
    assert (system.in_doubt, system.undelivered) == (1, 0)


@pytest.mark.anyio
async def test_an_ask_waits_for_the_next_incarnation(world: World) -> None:
    """Unread, it is answered by the next life; begun, it fails."""

    class Asked(Actor):
        @handles
        async def visit(self, request: Visit) -> Total:
            if self.restarts == 0:
                raise RuntimeError
            return Total(self.restarts)

    async with world.system(spec("it", Asked)) as system:
        replies = Record[Any]()

        async def ask() -> None:
            try:
                replies.add((await system.ref("it").ask(Visit([]))).value)
            except ActorDied:
                replies.add("died")

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
        assert sorted(replies.entries, key=str) == [1, 1, "died"]
