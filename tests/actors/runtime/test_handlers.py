"""Serial, concurrent and thread handlers, own loops and tasks: their concurrency and their end."""

import threading
from functools import partial
from typing import Any, ClassVar

import anyio
import pytest

from actorq.actors import Actor, Ref, State, handles
from actorq.testing import Record
from tests.actors.messages import Add, Echo, GetTotal, Text, Total
from tests.actors.world import World, fresh, spec

pytestmark = pytest.mark.anyio


class Concurrent(Actor):
    """Each request waits until it is let go by its text."""

    log: ClassVar[Record[Any]]
    gates: ClassVar[dict[str, anyio.Event]]

    async def on_start(self) -> None:
        self.total = 0

    @handles(concurrent=2)
    async def echo(self, request: Echo) -> Text:
        self.log.add(request.text)
        await self.gates[request.text].wait()
        self.log.add(f"{request.text} done")
        return Text(request.text)

    @handles
    async def add(self, message: Add) -> None:
        self.total += message.amount
        self.log.add(self.total)


async def test_concurrent_handlers_keep_to_their_limit_and_delay_no_others(world: World) -> None:
    cls = fresh(Concurrent, log=Record(), gates={name: anyio.Event() for name in "abc"})
    async with world.system(spec("it", cls)) as system, anyio.create_task_group() as tasks:
        ref = system.ref("it")
        for text in "abc":
            tasks.start_soon(ref.ask, Echo(text))
        await cls.log.reaches(2)
        await ref.tell(Add(1))
        await cls.log.has(1)
        await world.still(system)
        running = [text for text in cls.log.entries if text in ("a", "b", "c")]
        assert len(running) == 2
        assert system.statistics().actors[0].mailbox.in_progress == 2
        assert system.statistics().actors[0].mailbox.unread == 1
        cls.gates[running[0]].set()
        await cls.log.reaches(5)
        for gate in cls.gates.values():
            gate.set()


async def test_a_concurrent_handler_may_wait_for_another_handler(world: World) -> None:
    class Waiting(Actor):
        async def on_start(self) -> None:
            self.filled = self.event()

        @handles(concurrent=2)
        async def sample(self, request: GetTotal) -> Total:
            await self.filled.wait()
            return Total(self.total)

        @handles
        async def fill(self, message: Add) -> None:
            self.total = message.amount
            self.filled.set()

    async with world.system(spec("it", Waiting)) as system, anyio.create_task_group() as tasks:
        replies = Record[Total]()

        async def ask() -> None:
            replies.add(await system.ref("it").ask(GetTotal()))

        tasks.start_soon(ask)
        await world.still(system)
        await system.ref("it").tell(Add(3))
        assert await replies.reaches(1) == [Total(3)]


async def test_thread_handlers_run_in_a_thread_one_at_a_time(world: World) -> None:
    threads = Record[int]()
    at_once, most = 0, 0

    class Threaded(Actor):
        @handles(thread=True)
        def add(self, message: Add) -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            self.seen = threading.get_ident()
            at_once -= 1

        @handles
        async def total(self, request: GetTotal) -> Total:
            threads.add(self.seen)
            return Total(await self.in_thread(max, 3, 4))

    async with world.system(spec("it", Threaded)) as system:
        for _ in range(5):
            await system.ref("it").tell(Add(1))
        assert await system.ref("it").ask(GetTotal()) == Total(4)
        assert threads.entries[0] != threading.get_ident()
        assert most == 1


async def test_a_thread_that_does_not_end_is_left_behind_and_named(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    begun, release = anyio.Event(), threading.Event()

    class Stuck(Actor):
        @handles(thread=True)
        def add(self, message: Add) -> None:
            anyio.from_thread.run_sync(begun.set)
            release.wait()

    try:
        async with world.system(spec("stuck", Stuck)) as system:
            await system.ref("stuck").tell(Add(1))
            await begun.wait()
            system.cells["stuck"].kill()
            await system.cells["stuck"].ended()
    finally:
        release.set()
    assert "stuck abandoned a thread in " in caplog.text
    assert "Stuck.add" in caplog.text


async def test_a_thread_left_behind_is_named_without_what_it_was_given(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    begun, release = anyio.Event(), threading.Event()

    def make(secret: str) -> None:
        anyio.from_thread.run_sync(begun.set)
        release.wait()

    class Making(Actor):
        async def run(self) -> None:
            await self.in_thread(partial(make, "a long text"))

    try:
        async with world.system(spec("making", Making)) as system:
            await begun.wait()
            system.cells["making"].kill()
            await system.cells["making"].ended()
    finally:
        release.set()
    assert "making abandoned a thread in " in caplog.text
    assert "a long text" not in caplog.text


async def test_the_loop_of_its_own_runs_beside_handlers_once_all_have_started(world: World) -> None:
    log = Record[str]()

    class Looping(Actor):
        async def on_start(self) -> None:
            log.add(f"{self.name} starts")

        async def run(self) -> None:
            log.add(f"{self.name} runs")
            try:
                await anyio.sleep_forever()
            finally:
                log.add(f"{self.name} ends")

        @handles
        async def text(self, message: Text) -> None:
            log.add(message.text)

    async with world.system(spec("a", Looping), spec("b", Looping)) as system:
        await log.reaches(4)
        assert log.entries[:2] == ["a starts", "b starts"]
        assert set(log.entries[2:]) == {"a runs", "b runs"}
        await system.ref("a").tell(Text("handled"))
        await log.has("handled")
    assert set(log.entries[-2:]) == {"a ends", "b ends"}


async def test_an_actor_continues_when_its_loop_has_ended(world: World) -> None:
    class Brief(Actor):
        async def run(self) -> None:
            pass

        @handles
        async def echo(self, request: Echo) -> Text:
            return Text(request.text)

    async with world.system(spec("brief", Brief)) as system:
        assert await system.ref("brief").ask(Echo("still here")) == Text("still here")
        assert system.statistics().restarts == 0


async def test_what_an_actor_starts_ends_with_it_and_is_no_handler(world: World) -> None:
    log = Record[str]()

    class Asker(Actor):
        other: Ref[Echo]

        async def on_start(self) -> None:
            log.add(f"life {self.restarts}")

        @handles
        async def text(self, message: Text) -> None:
            self.start_soon(self.background, message.text)
            if message.text == "die":
                raise RuntimeError

        async def background(self, text: str) -> None:
            try:
                # The other asks back while this waits: no circle, for no handler of this actor waits.
                log.add((await self.other.ask(Echo(text))).text)
                await anyio.sleep_forever()
            finally:
                log.add(f"end of {text}")

        @handles
        async def echo(self, request: Echo) -> Text:
            return Text(request.text + "!")

    class Other(Actor):
        asker: Ref[Echo]

        @handles
        async def echo(self, request: Echo) -> Text:
            return await self.asker.ask(request)

    async with world.system(
        spec("asker", Asker, {"other": "other"}), spec("other", Other, {"asker": "asker"})
    ) as system:
        await system.ref("asker").tell(Text("hello"))
        await log.has("hello!")
        await system.ref("asker").tell(Text("die"))
        await log.has("life 1")
        assert "end of hello" in log.entries
        assert "die!" not in log.entries


async def test_a_handlers_deadlines_are_its_own(world: World) -> None:
    class Patient(Actor):
        @handles
        async def echo(self, request: Echo) -> Text:
            with anyio.move_on_after(0):
                await anyio.sleep_forever()
            return Text("gave up")

    async with world.system(spec("it", Patient)) as system:
        assert await system.ref("it").ask(Echo("")) == Text("gave up")


async def test_what_an_actor_knows_of_itself(world: World) -> None:
    found = Record[Any]()

    class Self(Actor):
        def __init__(self) -> None:
            found.add((self.name, self.index, self.count, self.seed, self.restarts, self.deterministic))

        async def on_start(self) -> None:
            self.report("loss", 0.5)
            self.progress("env_steps", 3)
            self.progress("env_steps")
            assert self.now() > 0
            await self.sleep(0)

    me = spec("self.1", Self, index=1, count=2, seed=7)
    async with world.system(me) as system:
        assert found.entries == [("self.1", 1, 2, 7, 0, False)]
        assert system.reports.counts == {"env_steps": 4}  # type: ignore[attr-defined]
        assert system.reports.gauges == {"loss": 0.5}  # type: ignore[attr-defined]


class Stateful(Actor):
    total = 0

    def state(self) -> State:
        return {"total": self.total}

    def load_state(self, state: State) -> None:
        self.total = state["total"]

    @handles
    async def add(self, message: Add) -> None:
        self.total += message.amount
        self.progress("updates")
        if message.amount == 0:
            raise RuntimeError

    @handles
    async def total_(self, request: GetTotal) -> Total:
        return Total(self.total)


async def test_states_are_taken_between_handlers_and_given_at_the_start(world: World) -> None:
    async with world.system(spec("it", Stateful), spec("none", Actor), states={"it": {"total": 3}}) as system:
        await system.ref("it").tell(Add(2))
        assert await system.ref("it").ask(GetTotal()) == Total(5)
        assert await system.states() == {"it": {"total": 5}}
        await system.ref("it").tell(Add(1))
    assert system.final_states == {"it": {"total": 6}}


@pytest.mark.parametrize(("every", "kept"), [(1, 7), (2, 3), (3, 7), (4, 0)])
async def test_a_snapshot_every_so_many_updates(world: World, every: int, kept: int) -> None:
    async with world.system(spec("it", Stateful, snapshot_every_updates=every)) as system:
        ref = system.ref("it")
        for amount in (1, 2, 4):
            await ref.tell(Add(amount))
            await world.still(system)
        await ref.tell(Add(0))
        assert await ref.ask(GetTotal()) == Total(kept)
        assert system.statistics().restarts == 1
