"""Mailboxes: credit per channel, bounds in bytes, `latest` delivery, and dead letters."""

from typing import ClassVar

import anyio
import numpy as np
import pytest

from actorq.actors import (
    Actor,
    ChannelStatistics,
    DeadLetter,
    Feed,
    MailboxBounds,
    Message,
    MessageTooLarge,
    Outcome,
    Ref,
    System,
    Topic,
    handles,
)
from actorq.testing import Record, recorder
from tests.actors.messages import Add, Block, Text, Weights
from tests.actors.misbehaving import Misbehaving, Poke
from tests.actors.world import World, fresh, spec

pytestmark = pytest.mark.anyio


class Gated(Actor):
    """Handles one message for each time it is let go."""

    record: ClassVar[Record[Message]]
    gate: ClassVar[anyio.Event]
    begun: ClassVar[anyio.Event]

    @handles
    async def handle(self, message: Add | Text | Block | Weights) -> None:
        self.begun.set()
        await self.gate.wait()
        self.record.add(message)


def gated() -> type[Gated]:
    return fresh(Gated, record=Record(), gate=anyio.Event(), begun=anyio.Event())


def channel(system: System, sender: str) -> ChannelStatistics:
    (found,) = next(actor.channels for actor in system.statistics().actors if actor.name == sender)
    return found


class Sender(Actor):
    """Tells what it is given; records how often it could."""

    to: Ref[Add | Text | Block | Weights]
    messages: ClassVar[tuple[Add | Text | Block | Weights, ...]]
    told: ClassVar[Record[Message]]
    dead: ClassVar[Record[DeadLetter]]

    async def run(self) -> None:
        for message in self.messages:
            await self.to.tell(message)
            self.told.add(message)

    async def on_undelivered(self, dead_letter: DeadLetter) -> None:
        self.dead.add(dead_letter)


def sender(*messages: Add | Text | Block | Weights) -> type[Sender]:
    return fresh(Sender, messages=messages, told=Record(), dead=Record())


async def test_a_full_link_slows_its_sender_and_no_other(world: World) -> None:
    to, eager, modest = gated(), sender(*(Add(i) for i in range(50))), sender(Text("me too"))
    async with world.system(
        spec("to", to, mailbox=MailboxBounds(messages=3)),
        spec("eager", eager, {"to": "to"}),
        spec("modest", modest, {"to": "to"}),
    ) as system:
        await eager.told.reaches(3)
        await modest.told.reaches(1)
        await world.still(system)
        assert len(eager.told.entries) == 3
        statistics = channel(system, "eager")
        assert (statistics.sent, statistics.outstanding, statistics.waiting) == (3, 3, 1)
        assert statistics.outstanding_bytes > 0
        assert channel(system, "modest").waiting == 0
        to.gate.set()
        assert len(await to.record.reaches(51)) == 51
        await eager.told.reaches(50)
        assert [m for m in to.record.entries if isinstance(m, Add)] == [Add(i) for i in range(50)]
        await system.quiesce()
        assert channel(system, "eager") == ChannelStatistics("to", 50, 50, 0, 0, 0, 0, 0)
    assert system.statistics().dead_letters == 0


async def test_a_message_counts_until_its_handler_has_returned(world: World) -> None:
    to, one = gated(), sender(Add(0), Add(1))
    async with world.system(
        spec("to", to, mailbox=MailboxBounds(messages=1)), spec("one", one, {"to": "to"})
    ) as system:
        await to.begun.wait()
        await world.still(system)
        assert len(one.told.entries) == 1
        assert system.statistics().actors[0].mailbox.in_progress == 1
        to.gate.set()
        await one.told.reaches(2)


async def test_the_bound_in_bytes(world: World) -> None:
    blocks = [Block(np.zeros(50)) for _ in range(4)]  # 464 bytes each
    to, one = gated(), sender(*blocks)
    async with world.system(
        spec("to", to, mailbox=MailboxBounds(bytes=1000)), spec("one", one, {"to": "to"})
    ) as system:
        await one.told.reaches(2)
        await world.still(system)
        assert len(one.told.entries) == 2
        assert channel(system, "one").outstanding_bytes == 928
        with pytest.raises(MessageTooLarge, match=r"Block of 1664 bytes from outside to to: .*at most 1000"):
            await system.ref("to").tell(Block(np.zeros(200)))
        to.gate.set()
        await to.record.reaches(4)


async def test_a_cancelled_wait_lets_later_ones_pass(world: World) -> None:
    to = gated()
    async with world.system(spec("to", to, mailbox=MailboxBounds(bytes=1000))) as system:
        ref = system.ref("to")
        await ref.tell(Block(np.zeros(50)))
        sent = Record[str]()

        async def small() -> None:
            await ref.tell(Add(1))
            sent.add("small")

        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as impatient:
                impatient.start_soon(ref.tell, Block(np.zeros(100)))
                await world.still(system)
                tasks.start_soon(small)
                await world.still(system)
                assert not sent.entries
                impatient.cancel_scope.cancel()
            await sent.reaches(1)
        to.gate.set()
        await to.record.reaches(2)
    assert system.statistics().dead_letters == 0


async def test_a_cancelled_tell_sent_nothing(world: World) -> None:
    to = gated()
    async with world.system(spec("to", to, mailbox=MailboxBounds(messages=1))) as system:
        ref = system.ref("to")
        await ref.tell(Add(0))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ref.tell, Add(1))
            await world.still(system)
            tasks.cancel_scope.cancel()
        to.gate.set()
        await ref.tell(Add(2))
        assert await to.record.reaches(2) == [Add(0), Add(2)]


# latest


async def test_latest_keeps_the_newest_of_each_sender_and_never_waits(world: World) -> None:
    to, one, two = gated(), sender(*(Weights(i) for i in range(20))), sender(*(Weights(-i) for i in range(9)))
    async with world.system(
        spec("to", to, mailbox=MailboxBounds(messages=1)),
        spec("one", one, {"to": "to"}),
        spec("two", two, {"to": "to"}),
    ) as system:
        await one.told.reaches(20)
        await two.told.reaches(9)
        to.gate.set()
        await system.quiesce()
        handled = to.record.entries
        assert handled[-1] in (Weights(19), Weights(-8))
        assert Weights(19) in handled
        assert Weights(-8) in handled
        for name, sent in (("one", 20), ("two", 9)):
            statistics = channel(system, name)
            assert statistics.sent == sent
            assert statistics.handled + statistics.superseded == sent
            assert statistics.outstanding == statistics.outstanding_bytes == 0
        assert len(handled) <= 4
    assert system.statistics().dead_letters == 0


class WeightPublisher(Actor):
    weights: Topic[Weights]
    go: ClassVar[Record[str]]

    async def run(self) -> None:
        for version in range(3):
            await self.weights.publish(Weights(version))
        self.go.add(",".join(self.weights.subscribers))


class Subscriber(Actor):
    weights: Feed[Weights]
    record: ClassVar[Record[tuple[int, int]]]

    @handles
    async def follow(self, message: Weights) -> None:
        self.record.add((self.restarts, message.version))

    @handles
    async def fail(self, message: Text) -> None:
        raise RuntimeError(message.text)


async def test_a_topic_reaches_its_subscribers_and_its_newest_is_repeated_after_a_restart(
    world: World,
) -> None:
    publisher = fresh(WeightPublisher, go=Record())
    subscriber = fresh(Subscriber, record=Record())
    async with world.system(
        spec("publisher", publisher),
        spec("one", subscriber, {"weights": "publisher"}),
        spec("deaf", recorder(Record(), Text)),
    ) as system:
        await publisher.go.has("one")
        await subscriber.record.has((0, 2))
        await system.ref("one").tell(Text("crash"))
        await subscriber.record.has((1, 2))


# Dead letters


async def test_a_clean_run_has_no_dead_letters(world: World) -> None:
    to, one = gated(), sender(Add(1), Text("a"), Weights(1))
    async with world.system(spec("to", to), spec("one", one, {"to": "to"})) as system:
        await one.told.reaches(3)
        to.gate.set()
    statistics = system.statistics()
    assert (statistics.undelivered, statistics.in_doubt) == (0, 0)
    assert len(to.record.entries) == 3


async def test_in_doubt_is_what_was_begun_and_undelivered_what_was_not(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Poker(Actor):
        to: Ref[Poke]
        dead: ClassVar[Record[DeadLetter]]

        async def run(self) -> None:
            for _ in range(3):
                await self.to.tell(Poke())

        async def on_undelivered(self, dead_letter: DeadLetter) -> None:
            self.dead.add(dead_letter)

    poker = fresh(Poker, dead=Record())
    config = Misbehaving.Config(place="handler")
    async with world.system(
        spec("to", Misbehaving, config=config, restart="never"), spec("poker", poker, {"to": "to"})
    ) as system:
        first, second, third = await poker.dead.reaches(3)
        assert (first.outcome, first.sender, first.target) == (Outcome.IN_DOUBT, "poker", "to")
        assert first.message == Poke()
        assert "crashed in poke over Poke: Misbehaviour: handler" in first.reason
        for later in (second, third):
            assert later.outcome is Outcome.UNDELIVERED
            assert "its restart policy is never" in later.reason
        assert channel(system, "poker").undelivered == 3
        statistics = system.statistics()
        assert (statistics.undelivered, statistics.in_doubt, statistics.dead_letters) == (2, 1, 3)
    assert "dead letter: Poke from poker to to, in doubt" in caplog.text


async def test_a_crash_leaves_the_unread_to_the_next_incarnation(world: World) -> None:
    record = Record[str]()

    class Fragile(Actor):
        @handles
        async def text(self, message: Text) -> None:
            if message.text == "die":
                raise RuntimeError
            record.add(message.text)

    async with world.system(spec("to", Fragile)) as system:
        for text in ("a", "die", "b", "c"):
            await system.ref("to").tell(Text(text))
        assert await record.reaches(3) == ["a", "b", "c"]
    assert (system.in_doubt, system.undelivered) == (1, 0)
