"""Deterministic scheduler: one actor at a time in a seeded order, the same on both event loops, in
virtual time.
"""

import threading
from typing import Any, ClassVar

import anyio
import pytest

from actorq.actors import (
    Actor,
    ActorDied,
    ActorFailed,
    ActorSpec,
    DeadLetter,
    Feed,
    Group,
    GroupSpec,
    MailboxBounds,
    Ref,
    RestartLimits,
    State,
    System,
    Topic,
    handles,
)
from actorq.testing import EncodedTransport, Record
from tests.actors.messages import Add, Echo, GetTotal, Text, Total, Weights
from tests.actors.world import fresh, spec

Trace = list[Any]
Wiring = dict[str, str | tuple[str, ...]]


class Tracing(Actor):
    trace: ClassVar[Record[Any]]

    def note(self, *what: Any) -> None:
        self.trace.add((round(self.now(), 9), self.name, self.restarts, *what))


class Learner(Tracing):
    """Publishes weights, loses a life now and then."""

    weights: Topic[Weights]
    replay: Ref[GetTotal | Add]
    finish: ClassVar[Any]

    async def run(self) -> None:
        for version in range(12):
            total = await self.replay.ask(GetTotal(), timeout=50.0)
            self.note("total", total.value)
            await self.weights.publish(Weights(version))
            self.progress("updates")
            if version == 7 and self.restarts < 2:
                raise RuntimeError("lost")
            await self.sleep(0.3)
        self.note("done")
        self.finish()

    async def on_stop(self) -> None:
        self.note("stop")


class Replay(Tracing):
    async def on_start(self) -> None:
        self.total = 0
        self.note("start")

    def state(self) -> State:
        return {"total": self.total}

    def load_state(self, state: State) -> None:
        self.total = state["total"]
        self.note("loaded", self.total)

    @handles
    async def add(self, message: Add) -> None:
        self.total += message.amount
        self.note("add", message.amount)
        if message.amount == 13 and self.restarts < 2:
            raise RuntimeError("unlucky")

    @handles(concurrent=2)
    async def get(self, request: GetTotal) -> Total:
        self.note("asked")
        await self.sleep(0.05)
        return Total(self.total)

    @handles(thread=True)
    def text(self, message: Text) -> None:
        self.note("text", message.text)


class Explorer(Tracing):
    replay: Ref[Add | Text]
    weights: Feed[Weights]
    peers: Group[Echo]

    async def on_start(self) -> None:
        self.version = -1
        self.start_soon(self.heartbeat)

    async def heartbeat(self) -> None:
        try:
            while True:
                await self.sleep(0.7)
                self.note("beats")
        finally:
            self.note("heart stops")

    async def run(self) -> None:
        for step in range(40):
            await self.replay.tell(Add(step))
            if step % 5 == self.index:
                await self.replay.tell(Text(str(step)))
            if step % 7 == 0:
                try:
                    reply = await self.peers.by(step).ask(Echo(str(step)), timeout=0.05)
                    self.note("heard", reply.text)
                except TimeoutError:
                    self.note("too late")
                except ActorDied as error:
                    self.note(str(error))
            await self.sleep(0.01 * self.index)
        self.note("explored")

    @handles
    async def follow(self, message: Weights) -> None:
        self.version = message.version
        self.note("version", message.version)

    @handles
    async def echo(self, request: Echo) -> Text:
        await self.sleep(0.02 * int(request.text))
        return Text(f"{self.name} {request.text}")

    async def on_undelivered(self, dead_letter: DeadLetter) -> None:
        self.note("undelivered", dead_letter.outcome.value)


async def trace(seed: int, transport: str = "inproc") -> Trace:
    record, finished = Record[Any](), anyio.Event()

    def finish() -> None:
        system.hold()
        finished.set()

    explorers = tuple(f"explorer.{i}" for i in range(3))
    wired: Wiring = {"replay": "replay", "weights": "learner", "peers": explorers}
    learner = fresh(Learner, trace=record, finish=staticmethod(finish))
    explorer = fresh(Explorer, trace=record)
    specs: list[ActorSpec] = [
        spec(
            "replay",
            fresh(Replay, trace=record),
            mailbox=MailboxBounds(messages=2),
            snapshot_every_seconds=0.5,
        ),
        spec("learner", learner, {"replay": "replay"}, group="pair"),
        *(
            spec(name, explorer, wired, index=i, count=3, group="pair" if i == 2 else "")
            for i, name in enumerate(explorers)
        ),
    ]
    groups = [GroupSpec(), GroupSpec(name="pair", strategy="rest-for-one", limits=RestartLimits(9))]
    carrier = EncodedTransport() if transport == "encoded" else None
    system = System(specs, groups, deterministic=True, seed=seed, transport=carrier)
    async with system:
        await finished.wait()
        await system.stop()
    statistics = system.statistics()
    states = [(actor.name, actor.restarts, actor.crashes, actor.mailbox) for actor in statistics.actors]
    return [*record.entries, system.final_states, *states]


def run(backend: str, seed: int, transport: str = "inproc") -> Trace:
    return anyio.run(trace, seed, transport, backend=backend)


@pytest.mark.parametrize("seed", range(3))
def test_one_seed_gives_one_trace_on_either_event_loop(seed: int) -> None:
    first = run("asyncio", seed)
    notes = [entry for entry in first if isinstance(entry, tuple) and isinstance(entry[0], float)]
    assert {restarts for _, _, restarts, *_ in notes} == {0, 1, 2}
    assert {"add", "text", "heard", "too late", "undelivered", "heart stops", "stop"} <= {n[3] for n in notes}
    assert [when for when, *_ in notes] == sorted(when for when, *_ in notes)
    assert notes[-1][0] > 3
    for backend in ("asyncio", "trio", "trio", "trio"):
        assert run(backend, seed) == first
    assert run("trio", seed, "encoded") == first


def test_another_seed_gives_another_order() -> None:
    assert run("asyncio", 0) != run("asyncio", 1)


@pytest.mark.anyio
async def test_time_jumps_from_deadline_to_deadline() -> None:
    log, done = Record[Any](), anyio.Event()

    class Sleeper(Actor):
        async def run(self) -> None:
            for _ in range(3):
                await self.sleep(self.index)
                log.add((self.now(), self.name))
            if self.index == 1000:
                done.set()

    sleepers = [spec(f"every {n}", Sleeper, index=n) for n in (1000, 7, 300)]
    async with System(sleepers, deterministic=True):
        await done.wait()
    assert log.entries == sorted(
        [(float(n * times), f"every {n}") for n in (1000, 7, 300) for times in (1, 2, 3)]
    )


@pytest.mark.anyio
async def test_a_timeout_is_virtual_and_its_reply_is_dropped() -> None:
    log = Record[Any]()

    class Slow(Actor):
        @handles
        async def echo(self, request: Echo) -> Text:
            await self.sleep(float(request.text))
            return Text("")

    class Asker(Actor):
        slow: Ref[Echo]

        async def run(self) -> None:
            try:
                await self.slow.ask(Echo("10"), timeout=4.0)
            except TimeoutError:
                log.add(self.now())
            await self.slow.ask(Echo("1"), timeout=8.0)
            log.add(self.now())

    async with System([spec("slow", Slow), spec("asker", Asker, {"slow": "slow"})], deterministic=True):
        assert await log.reaches(2) == [4.0, 11.0]


@pytest.mark.anyio
async def test_a_cancelled_task_cleans_up_in_its_turn() -> None:
    log = Record[Any]()

    class Cleaning(Actor):
        async def on_start(self) -> None:
            for number in range(3):
                self.start_soon(self.clean_up, number)

        async def clean_up(self, number: int) -> None:
            try:
                await self.sleep(1e9)
            finally:
                with anyio.CancelScope(shield=True):
                    await self.sleep(3 - number)
                log.add((self.now(), number))

        async def run(self) -> None:
            if self.restarts == 0:
                await self.sleep(5)
                raise RuntimeError
            log.add("again")

    limits = [GroupSpec(limits=RestartLimits(backoff_seconds=0.0))]
    async with System([spec("it", Cleaning)], limits, deterministic=True):
        assert await log.reaches(4) == [(6.0, 2), (7.0, 1), (8.0, 0), "again"]


@pytest.mark.anyio
async def test_threads_are_inline_and_the_application_outside_may_ask() -> None:
    class Threaded(Actor):
        @handles(thread=True)
        def add(self, message: Add) -> None:
            self.where = threading.get_ident()

        @handles
        async def total(self, request: GetTotal) -> Total:
            return Total(int(self.where == threading.get_ident()))

    async with System([spec("it", Threaded)], deterministic=True) as system:
        await system.ref("it").tell(Add(1))
        assert await system.ref("it").ask(GetTotal(), timeout=1e6) == Total(1)
        assert await system.states() == {}


@pytest.mark.anyio
async def test_tasks_that_take_no_turns_are_named() -> None:
    class Wild(Actor):
        @handles
        async def echo(self, request: Echo) -> Text:
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(self.sleep, 1.0)
            return Text("")

    limits = [GroupSpec(limits=RestartLimits(max_restarts=0))]
    with pytest.raises(ActorFailed) as failure:
        async with System([spec("it", Wild)], limits, deterministic=True) as system:
            await system.ref("it").ask(Echo(""))
    errors = failure.value.__cause__
    assert isinstance(errors, ExceptionGroup)
    assert "a task of it waits that takes no turns" in str(errors.exceptions[0])
