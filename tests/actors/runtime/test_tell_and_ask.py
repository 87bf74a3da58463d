"""Tell and ask: replies, refusals, timeouts, groups, order, and the effects of cancelling."""

from typing import Any

import anyio
import numpy as np
import pytest

from actorq.actors import (
    Actor,
    ActorDied,
    DefinitionError,
    Group,
    MailboxBounds,
    Message,
    NotCarried,
    Ref,
    Refused,
    Stopping,
    handles,
)
from actorq.testing import Record, recorder
from tests.actors.messages import Add, Block, Echo, GetTotal, Measure, Nothing, Text, Total
from tests.actors.world import World, fresh, spec

pytestmark = pytest.mark.anyio


class Counter(Actor):
    async def on_start(self) -> None:
        self.total = 0

    @handles
    async def add(self, message: Add) -> None:
        if message.amount < 0:
            raise Refused("only more")
        self.total += message.amount

    @handles
    async def get_total(self, request: GetTotal) -> Total:
        return Total(self.total)

    @handles
    async def echo(self, request: Echo) -> Text:
        if not request.text:
            raise Refused("nothing to say")
        if request.text == "die":
            raise RuntimeError("no more")
        return Text(f"{self.name}: {request.text}")

    @handles
    async def measure(self, request: Measure) -> Total:
        assert not request.data.flags.writeable
        return Total(len(request.data))

    @handles
    async def nothing(self, request: Nothing) -> None:
        self.total = 0


async def test_messages_of_one_sender_are_handled_in_order(world: World) -> None:
    record = Record[Message]()
    async with world.system(spec("sink", recorder(record, Add, Text))) as system:
        sink = system.ref("sink")
        sent = [Add(i) if i % 3 else Text(str(i)) for i in range(300)]
        for message in sent:
            await sink.tell(message)
        assert await record.reaches(300) == sent


async def test_asking(world: World) -> None:
    async with world.system(spec("counter", Counter)) as system:
        counter = system.ref("counter")
        for amount in range(5):
            await counter.tell(Add(amount))
        assert await counter.ask(GetTotal()) == Total(10)
        assert await counter.ask(Echo("hi"), timeout=10) == Text("counter: hi")
        assert await counter.ask(Measure(np.zeros(7))) == Total(7)
        nothing: object = await counter.ask(Nothing())
        assert nothing is None
        assert await counter.ask(GetTotal()) == Total(0)
        assert repr(counter) == "<Ref to counter>"
    assert system.statistics().dead_letters == 0


async def test_refused_goes_to_the_asker_and_the_actor_keeps_running(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.system(spec("counter", Counter)) as system:
        counter = system.ref("counter")
        with pytest.raises(Refused, match="nothing to say"):
            await counter.ask(Echo(""))
        await counter.tell(Add(-1))
        assert await counter.ask(GetTotal()) == Total(0)
        (statistics,) = system.statistics().actors
        assert (statistics.mailbox.refused, statistics.crashes) == (2, 0)
    assert "counter refused Add: only more" in caplog.text


async def test_stopping_differs_from_other_refusals(world: World) -> None:
    """Also by a concurrent handler, and where the asker is in another process."""

    class Draining(Actor):
        @handles
        async def get_total(self, request: GetTotal) -> Total:
            raise Stopping

        @handles(concurrent=2)
        async def echo(self, request: Echo) -> Text:
            raise Stopping

    refusals = Record[list[str]]()

    class Caller(Actor):
        draining: Ref[GetTotal | Echo]

        async def run(self) -> None:
            seen = []
            for request in (GetTotal(), Echo("x")):
                try:
                    await self.draining.ask(request)
                except Stopping as stopping:
                    seen.append(stopping.reason)
            refusals.add(seen)

    specs = [spec("draining", Draining), spec("caller", Caller, {"draining": "draining"})]
    async with world.system(*specs) as system:
        assert await refusals.reaches(1) == [["the run is stopping"] * 2]
        with pytest.raises(Refused, match="the run is stopping"):
            await system.ref("draining").ask(GetTotal())
    assert system.statistics().dead_letters == 0


async def test_asked_again_after_its_receiver_died(world: World) -> None:
    """`retry`: the third incarnation replies, to one request and to a group of which one member dies."""

    class Mortal(Actor):
        @handles
        async def echo(self, request: Echo) -> Text:
            if self.restarts < 2 and self.name != "well":
                raise RuntimeError(f"incarnation {self.restarts} of {self.name}")
            return Text(f"{request.text}{self.restarts}")

    replies = Record[list[str]]()

    class Caller(Actor):
        several: Group[Echo]

        async def run(self) -> None:
            asked = self.several.all()
            replies.add([reply.text for reply in await asked.ask_each([Echo("a"), Echo("b")], retry=True)])

    names = ("alone", "ill", "well")
    specs = [spec(name, Mortal) for name in names]
    async with world.system(*specs, spec("caller", Caller, {"several": names[1:]})) as system:
        with pytest.raises(ActorDied, match="incarnation 0"):
            await system.ref("alone").ask(Echo("x"))
        assert await system.ref("alone").ask(Echo("x"), retry=True) == Text("x2")
        assert await replies.reaches(1) == [["a2", "b0"]]


async def test_asking_an_actor_that_crashes_over_it(world: World) -> None:
    async with world.system(spec("counter", Counter)) as system:
        with pytest.raises(ActorDied, match=r"outside asked counter Echo: in doubt: .*RuntimeError: no more"):
            await system.ref("counter").ask(Echo("die"))
        assert await system.ref("counter").ask(GetTotal()) == Total(0)
        assert system.statistics().in_doubt == 1


async def test_asking_after_the_end(world: World) -> None:
    async with world.system(spec("counter", Counter)) as system:
        counter = system.ref("counter")
        await system.stop()
        with pytest.raises(ActorDied, match="undelivered: the run has stopped"):
            await counter.ask(GetTotal())


class Slow(Actor):
    """Answers when it is let go."""

    gate: anyio.Event
    begun: anyio.Event

    @handles
    async def measure(self, request: GetTotal) -> Total:
        self.begun.set()
        await self.gate.wait()
        return Total(1)


def slow() -> type[Slow]:
    return fresh(Slow, gate=anyio.Event(), begun=anyio.Event())


async def test_a_timeout_drops_the_reply_only(world: World) -> None:
    cls = slow()
    async with world.system(spec("slow", cls)) as system:
        ref = system.ref("slow")
        with pytest.raises(TimeoutError, match="outside asked slow GetTotal: no reply"):
            await ref.ask(GetTotal(), timeout=0.001)
        cls.gate.set()
        assert await ref.ask(GetTotal()) == Total(1)
        assert system.statistics().actors[0].mailbox.handled == 2


async def test_a_timeout_counts_the_wait_for_room_too(world: World) -> None:
    cls = slow()
    async with world.system(spec("slow", cls, mailbox=MailboxBounds(messages=1))) as system:
        ref = system.ref("slow")
        with pytest.raises(TimeoutError, match="no reply"):
            await ref.ask(GetTotal(), timeout=0.001)
        with pytest.raises(TimeoutError, match="no room in its mailbox"):
            await ref.ask(GetTotal(), timeout=0.001)
        with pytest.raises(TimeoutError, match="no room in its mailbox"):
            await Group([ref]).all().ask(GetTotal(), timeout=0.001)
        cls.gate.set()
        assert await ref.ask(GetTotal()) == Total(1)


async def test_a_cancelled_ask_may_still_be_handled(world: World) -> None:
    cls = slow()
    async with world.system(spec("slow", cls)) as system:
        ref = system.ref("slow")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ref.ask, GetTotal())
            await cls.begun.wait()
            tasks.cancel_scope.cancel()
        cls.gate.set()
        assert await ref.ask(GetTotal()) == Total(1)
        assert system.statistics().actors[0].mailbox.handled == 2
    assert system.statistics().dead_letters == 0


@pytest.mark.parametrize("answer", [None, Text("no"), 3])
async def test_a_wrong_answer_is_a_crash(world: World, answer: object) -> None:
    class Wrong(Actor):
        @handles
        async def total(self, request: GetTotal):  # type: ignore[no-untyped-def]
            return answer

    async with world.system(spec("wrong", Wrong)) as system:
        with pytest.raises(ActorDied, match=r"total answered .*; GetTotal asks for Total"):
            await system.ref("wrong").ask(GetTotal())


async def test_a_port_carries_what_it_declares_and_nothing_else(world: World) -> None:
    raised = Record[Exception]()

    class Sender(Actor):
        counter: Ref[Add]

        async def run(self) -> None:
            counter: Ref[Any] = self.counter
            for attempt in (counter.tell(Text("?")), counter.ask(GetTotal())):
                try:
                    await attempt
                except NotCarried as error:
                    raised.add(error)

    async with world.system(spec("counter", Counter), spec("sender", Sender, {"counter": "counter"})):
        for error in await raised.reaches(2):
            assert "to counter, but this port carries Add" in str(error)


async def test_wiring_is_checked(world: World) -> None:
    class Sender(Actor):
        sink: Ref[Add]
        maybe: Ref[Add] | None

    sink = spec("sink", recorder(Record(), Text))
    counters = spec("one", Counter), spec("two", Counter)
    with pytest.raises(DefinitionError, match="sender: port sink is not wired to any actor"):
        world.system(spec("sender", Sender))
    with pytest.raises(DefinitionError, match="carries Add, which sink does not handle"):
        world.system(sink, spec("sender", Sender, {"sink": "sink"}))
    with pytest.raises(DefinitionError, match="sink is a Ref but is wired to 2 actors"):
        world.system(*counters, spec("sender", Sender, {"sink": ("one", "two")}))
    async with world.system(*counters, spec("sender", Sender, {"sink": "one"})) as system:
        with pytest.raises(KeyError, match="no actor 'three'; there are one, two, sender"):
            system.ref("three")


async def test_an_optional_port_is_none_when_it_is_not_wired(world: World) -> None:
    found = Record[object]()

    class Sender(Actor):
        sink: Ref[Add] | None

        async def on_start(self) -> None:
            found.add(self.sink)

    async with world.system(spec("sender", Sender)):
        assert found.entries == [None]


async def test_groups(world: World) -> None:
    replies = Record[list[str]]()

    class Caller(Actor):
        counters: Group[Echo | Add | GetTotal]

        async def run(self) -> None:
            ask = self.counters
            replies.add([(await ask.any().ask(Echo("x"))).text for _ in range(4)])
            replies.add([reply.text for reply in await ask.all().ask(Echo("y"))])
            replies.add([(await ask.by(key).ask(Echo("z"))).text for key in ("k", "k", 7, 7)])
            await ask.all().tell(Add(5))
            replies.add([str(total.value) for total in await ask.all().ask(GetTotal(), timeout=60)])
            replies.add([ref.name for ref in ask])
            try:
                await ask.all().ask(Echo(""))
            except Refused as refusal:
                replies.add([refusal.reason, str(len(ask)), ask[1].name])

    counters = [spec(f"counter.{i}", Counter, index=i, count=3) for i in range(3)]
    names = [counter.name for counter in counters]
    async with world.system(*counters, spec("caller", Caller, {"counters": tuple(names)})) as system:
        turns, everyone, by_key, totals, members, refused = await replies.reaches(6)
        assert turns == [f"counter.{i}: x" for i in (0, 1, 2, 0)]
        assert everyone == [f"{name}: y" for name in names]
        assert by_key[0] == by_key[1]
        assert by_key[2] == by_key[3]
        assert totals == ["5", "5", "5"]
        assert members == names
        assert refused == ["nothing to say", "3", "counter.1"]
        assert len(system.group("counter")) == 3
        with pytest.raises(KeyError, match="no group 'caller'"):
            system.group("caller")


async def test_arrays_arrive_read_only_and_keep_their_values(world: World) -> None:
    record = Record[Block]()
    async with world.system(spec("sink", recorder(record, Block))) as system:
        buffer = np.zeros(8)
        for value in range(4):
            buffer[:] = value
            await system.ref("sink").tell(Block(buffer[:]))
        blocks = await record.reaches(4)
        assert [block.data[0] for block in blocks] == [0, 1, 2, 3]
        assert not any(block.data.flags.writeable for block in blocks)
        owned = np.zeros(8)
        await system.ref("sink").tell(Block(owned))
        with pytest.raises(ValueError, match="read-only"):
            owned[0] = 1
