"""Stopping: in order, within a time limit, also when cancelled from outside; hanging actors are named."""

import threading
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint

from actorq.actors import Actor, ActorDied, ActorFailed, GroupSpec, Ref, State, System, handles
from actorq.testing import Record, run_virtually
from tests.actors.messages import Add, Echo, Text, Total, Visit
from tests.actors.misbehaving import Misbehaving
from tests.actors.world import AT_ONCE, World, fresh, spec

Backend = Literal["asyncio", "trio"]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    name: Backend = request.param
    return name


class Source(Actor):
    """Tells without end, from its loop."""

    sink: Ref[Add]
    log: ClassVar[Record[str]]

    async def on_start(self) -> None:
        self.sent = 0

    async def run(self) -> None:
        try:
            while True:
                await self.sink.tell(Add(1))
                self.sent += 1
                await self.sleep(0)
        finally:
            self.log.add("source ends")

    async def on_stop(self) -> None:
        self.log.add(f"source stops {self.sent}")


class Sink(Actor):
    log: ClassVar[Record[str]]

    async def on_start(self) -> None:
        self.total = 0

    @handles
    async def add(self, message: Add) -> None:
        await self.sleep(0)
        self.total += message.amount
        self.progress("sunk")

    async def on_stop(self) -> None:
        self.log.add(f"sink stops {self.total}")

    def state(self) -> State:
        return {"total": self.total}


@pytest.mark.anyio
async def test_sources_end_the_rest_drains_and_on_stop_runs_in_reverse(world: World) -> None:
    log = Record[str]()
    async with world.system(
        spec("sink", fresh(Sink, log=log)), spec("source", fresh(Source, log=log), {"sink": "sink"})
    ) as system:
        while system.statistics().actors[0].mailbox.handled < 20:
            await checkpoint()
    ends, source, sink = log.entries
    assert ends == "source ends"
    assert source.startswith("source stops")
    assert sink == f"sink stops {source.split()[-1]}"
    assert system.final_states["sink"]["total"] == int(source.split()[-1])
    assert system.statistics().dead_letters == 0
    assert not any(actor.alive for actor in system.statistics().actors)


class Farewell(Actor):
    """Its loop takes its time to end, and sends something last of all."""

    sink: Ref[Add]

    async def run(self) -> None:
        try:
            await self.event().wait()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(100):
                    await checkpoint()
                await self.sink.tell(Add(1))


@pytest.mark.anyio
async def test_what_a_loop_sends_as_it_ends_is_handled_and_in_the_final_states(world: World) -> None:
    async with world.system(
        spec("sink", fresh(Sink, log=Record[str]())), spec("source", Farewell, {"sink": "sink"})
    ) as system:
        pass
    assert system.final_states["sink"]["total"] == 1
    assert system.statistics().dead_letters == 0


@pytest.mark.anyio
async def test_cancelled_from_outside_it_ends_in_order_all_the_same(world: World) -> None:
    log = Record[str]()
    began = anyio.Event()
    system = world.system(
        spec("sink", fresh(Sink, log=log)), spec("source", fresh(Source, log=log), {"sink": "sink"})
    )

    async def body() -> None:
        async with system:
            began.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        await began.wait()
        tasks.cancel_scope.cancel()
    assert [entry.rpartition(" ")[0] for entry in log.entries] == ["source", "source stops", "sink stops"]
    assert log.entries[1].split()[-1] == log.entries[2].split()[-1]
    assert system.statistics().dead_letters == 0


@pytest.mark.anyio
async def test_cancelled_while_starting(world: World) -> None:
    log, started = Record[str](), anyio.Event()

    class Stuck(Actor):
        async def on_start(self) -> None:
            started.set()
            await anyio.sleep_forever()

        async def on_stop(self) -> None:
            log.add("stuck stops")

    async def body() -> None:
        async with world.system(spec("sink", fresh(Sink, log=log)), spec("stuck", Stuck)):
            log.add("body")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert log.entries == ["sink stops 0"]


@pytest.mark.anyio
async def test_the_bodys_own_error_comes_through_as_it_is(world: World) -> None:
    log = Record[str]()
    with pytest.raises(ZeroDivisionError):
        async with world.system(spec("sink", fresh(Sink, log=log))):
            _ = 1 // 0
    assert log.entries == ["sink stops 0"]


@pytest.mark.anyio
async def test_stopping_twice_and_at_the_same_time_is_stopping_once(world: World) -> None:
    log = Record[str]()
    async with world.system(spec("sink", fresh(Sink, log=log))) as system:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(system.stop)
        assert log.entries == ["sink stops 0"]
        await system.stop()
        await system.quiesce()
    assert log.entries == ["sink stops 0"]


@pytest.mark.anyio
async def test_on_stop_may_ask_those_that_come_earlier_and_others_are_gone(world: World) -> None:
    heard = Record[Any]()

    class Peer(Actor):
        others: Ref[Echo]

        @handles
        async def echo(self, request: Echo) -> Text:
            return Text(request.text)

        async def on_stop(self) -> None:
            try:
                heard.add((await self.others.ask(Echo(self.name))).text)
            except ActorDied as error:
                heard.add(str(error))

    async with world.system(spec("a", Peer, {"others": "b"}), spec("b", Peer, {"others": "a"})):
        pass
    answered, gone = heard.entries
    assert answered == "b"
    assert gone == "a asked b Echo: undelivered: the run has stopped"


@pytest.mark.anyio
async def test_handlers_that_wait_for_more_are_let_go_when_draining(world: World) -> None:
    replies = Record[int]()

    class Limited(Actor):
        async def on_start(self) -> None:
            self.more = self.event()

        @handles(concurrent=2)
        async def visit(self, request: Visit) -> Total:
            await self.more.wait()
            return Total(1)

        def on_drain(self) -> None:
            self.more.set()

    async with world.system(spec("it", Limited)) as system, anyio.create_task_group() as tasks:

        async def ask() -> None:
            replies.add((await system.ref("it").ask(Visit([]))).value)

        tasks.start_soon(ask)
        await world.still(system)
        await system.stop()
        assert await replies.reaches(1) == [1]
    assert system.statistics().dead_letters == 0


# Two seconds, on a virtual clock.


class Hanging(Actor):
    """Hangs for ever in one place."""

    place: ClassVar[str]
    begun: ClassVar[Callable[[], anyio.Event]]

    async def _hang(self, place: str) -> None:
        if place == self.place:
            await anyio.sleep_forever()

    @handles
    async def text(self, message: Text) -> None:
        await self._hang("handler")

    @handles(concurrent=2)
    async def echo(self, request: Echo) -> Text:
        await self._hang("concurrent")
        return Text("")

    async def on_stop(self) -> None:
        await self._hang("on_stop")


class Last(Actor):
    log: ClassVar[Record[str]]

    async def on_stop(self) -> None:
        self.log.add(f"{self.name} stops")


@pytest.mark.parametrize("place", ["handler", "concurrent", "on_stop"])
def test_a_hanging_actor_delays_the_end_by_two_seconds_at_most_and_is_named(
    backend: Backend, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = Record[str]()

    async def run() -> None:
        last = fresh(Last, log=log)
        specs = [spec("first", last), spec("stuck", fresh(Hanging, place=place)), spec("last", last)]
        async with System(specs) as system:
            await system.ref("stuck").tell(Text(""))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_ask_in_vain, system.ref("stuck"), place)
                await anyio.wait_all_tasks_blocked()
                before = anyio.current_time()
                await system.stop()
                assert anyio.current_time() - before <= 2.0
        assert system.in_doubt == (place != "on_stop")

    run_virtually(backend, run)
    assert log.entries == ["last stops", "first stops"]
    if place == "on_stop":
        assert "stopping: stuck did not end in time and was cut short in on_stop" in caplog.text
    else:
        assert "stopping: not drained within 1.5 s, still busy: stuck" in caplog.text


async def _ask_in_vain(ref: Ref[Echo], place: str) -> None:
    if place == "concurrent":
        with pytest.raises(ActorDied, match="in doubt: stopped while handling it"):
            await ref.ask(Echo(""))


def test_many_that_hang_take_no_longer(backend: Backend) -> None:
    async def run() -> None:
        stuck = fresh(Hanging, place="on_stop")
        async with System([spec(f"stuck.{i}", stuck) for i in range(20)]) as system:
            before = anyio.current_time()
            await system.stop()
            assert anyio.current_time() - before <= 2.0

    run_virtually(backend, run)


@pytest.mark.anyio
async def test_a_thread_handler_that_hangs_is_left_behind_and_named(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actorq.actors.runtime.system.DRAIN_SECONDS", 0.01)
    release, begun = threading.Event(), anyio.Event()

    class Stuck(Actor):
        @handles(thread=True)
        def text(self, message: Text) -> None:
            anyio.from_thread.run_sync(begun.set)
            release.wait()

    try:
        async with world.system(spec("stuck", Stuck)) as system:
            await system.ref("stuck").tell(Text(""))
            await begun.wait()
    finally:
        release.set()
    assert "still busy: stuck" in caplog.text
    assert "stuck abandoned a thread" in caplog.text


def test_stopping_while_an_actor_is_being_started_again(backend: Backend) -> None:
    """With unread messages, and its start hanging: two seconds at most."""

    class Slow(Actor):
        restarting: ClassVar[Record[bool]]

        async def on_start(self) -> None:
            if self.restarts:
                self.restarting.add(True)
                await anyio.sleep_forever()

        @handles
        async def text(self, message: Text) -> None:
            raise RuntimeError

    async def run() -> None:
        slow = fresh(Slow, restarting=Record())
        async with System([spec("slow", slow)], AT_ONCE) as system:
            for _ in range(3):
                await system.ref("slow").tell(Text(""))
            await slow.restarting.reaches(1)
            before = anyio.current_time()
            await system.stop()
            assert anyio.current_time() - before <= 2.0
        assert (system.in_doubt, system.undelivered) == (1, 2)

    run_virtually(backend, run)


@pytest.mark.parametrize("alone", [True, False], ids=["its loop has ended", "its group starts again"])
def test_stopping_while_an_actor_is_in_on_stop_already(backend: Backend, alone: bool) -> None:
    """It handles nothing any more: the states are not waited for."""

    class Slow(Actor):
        stopping: ClassVar[Record[bool]]

        async def run(self) -> None:
            if not alone:
                await anyio.sleep_forever()

        async def on_stop(self) -> None:
            self.stopping.add(True)
            await self.sleep(1.0)

    async def run() -> None:
        slow = fresh(Slow, stopping=Record())
        config = Misbehaving.Config(place="run")
        specs = [spec("slow", slow, restart="always" if alone else "on-failure", group="all")]
        specs += [] if alone else [spec("it", Misbehaving, config=config, group="all")]
        async with System(specs, [GroupSpec(name="all", strategy="one-for-all")]) as system:
            await slow.stopping.reaches(1)
            before = anyio.current_time()
            await system.stop()
            assert anyio.current_time() - before <= 2.0

    run_virtually(backend, run)


def test_stopping_during_the_back_off(backend: Backend) -> None:
    async def run() -> None:
        config = Misbehaving.Config(place="run")
        async with System([spec("it", Misbehaving, config=config)]) as system:
            while system.statistics().actors[0].alive:
                await checkpoint()
        assert system.statistics().restarts == 0

    run_virtually(backend, run)


@pytest.mark.anyio
async def test_a_crash_while_draining_fails_the_run(world: World) -> None:
    class Fragile(Actor):
        @handles
        async def text(self, message: Text) -> None:
            raise RuntimeError(message.text)

    with pytest.raises(
        ActorFailed, match="'it' crashed in text over Text: RuntimeError: late while the run was"
    ):
        async with world.system(spec("it", Fragile)) as system:
            await system.ref("it").tell(Text("late"))


@pytest.mark.anyio
async def test_a_crash_in_on_drain_is_the_actors(world: World) -> None:
    log: Record[str] = Record()

    class Fragile(Actor):
        def on_drain(self) -> None:
            raise RuntimeError("no way out")

    with pytest.raises(ActorFailed, match="'it' crashed in on_drain: RuntimeError: no way out while the run"):
        async with world.system(spec("first", fresh(Sink, log=log)), spec("it", Fragile)):
            pass
    assert log.entries == ["sink stops 0"], "the others end in order all the same"
