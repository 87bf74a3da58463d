"""Over the encoding transport actors behave as over queues, but share no memory."""

from typing import Any, ClassVar, Literal

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.actors import (
    Actor,
    ActorDied,
    ActorSpec,
    DeadLetter,
    DefinitionError,
    Message,
    Outcome,
    Ref,
    Refused,
    Request,
    System,
    handles,
)
from actorq.actors.runtime.channel import Channel
from actorq.testing import EncodedTransport
from tests.actors.world import all_blocked

pytestmark = pytest.mark.anyio


class Total(Message):
    data: NDArray[np.float32]


class Add(Request[Total]):
    data: NDArray[np.float32]


class Wait(Message):
    pass


class Note(Message):
    text: str


class Newest(Message):
    delivery: ClassVar[Literal["each", "latest"]] = "latest"
    number: int


class Seen(Message):
    values: list[Any]


class GetSeen(Request[Seen]):
    pass


class Anything(Message):
    value: Any


class Closed(Message):
    hook: slice


class Adder(Actor):
    async def on_start(self) -> None:
        self.total = np.zeros(3, np.float32)
        self.seen: list[Any] = []
        self.held = anyio.Event()

    @handles
    async def add(self, request: Add) -> Total:
        if request.data.shape != (3,):
            raise Refused(f"shape {request.data.shape}")
        if np.isnan(request.data).any():
            raise ZeroDivisionError("not a number")
        self.seen.append(request.data)
        self.total = self.total + request.data
        return Total(data=self.total)

    @handles
    async def wait(self, message: Wait) -> None:
        await self.held.wait()

    @handles
    async def note(self, message: Note | Newest) -> None:
        self.seen.append(message.text if isinstance(message, Note) else message.number)

    @handles
    async def anything(self, message: Anything) -> None:
        self.seen.append(message.value)

    @handles
    async def get_seen(self, request: GetSeen) -> Seen:
        return Seen(values=list(self.seen))


class Closing(Actor):
    @handles
    async def close(self, message: Closed) -> None:
        pass


class Teller(Actor):
    """Tells what it is told, and notes what comes back."""

    other: Ref[Anything]

    async def on_start(self) -> None:
        self.dead: list[DeadLetter] = []

    @handles
    async def note(self, message: Note) -> None:
        await self.other.tell(Anything(value=object()))

    async def on_undelivered(self, dead_letter: DeadLetter) -> None:
        self.dead.append(dead_letter)


class AskOther(Request[Total]):
    pass


class Circle(Actor):
    other: Ref[AskOther]

    @handles
    async def ask_other(self, request: AskOther) -> Total:
        return await self.other.ask(AskOther())


def adder() -> System:
    return System([ActorSpec(name="adder", cls=Adder)], transport=EncodedTransport())


def actor_of(system: System, name: str) -> Any:
    cell: Any = system.cells[name]
    return cell.actor


async def test_arrays_arrive_as_read_only_copies() -> None:
    async with adder() as system:
        sent = np.array([1, 2, 3], np.float32)
        reply = await system.ref("adder").ask(Add(data=sent))
        actor = actor_of(system, "adder")
        assert reply.data.tolist() == [1, 2, 3]
        for array, twin in ((actor.seen[0], sent), (reply.data, actor.total)):
            assert not np.shares_memory(array, twin)
            assert not array.flags.writeable


async def test_messages_arrive_in_order() -> None:
    async with adder() as system:
        ref = system.ref("adder")
        for number in range(100):
            await ref.tell(Note(text=str(number)))
        assert (await ref.ask(GetSeen())).values == [str(number) for number in range(100)]


async def test_refusals_and_crashes_come_back() -> None:
    async with adder() as system:
        ref = system.ref("adder")
        with pytest.raises(Refused, match=r"shape \(2,\)"):
            await ref.ask(Add(data=np.zeros(2, np.float32)))
        with pytest.raises(ActorDied, match=r"in doubt: .*not a number"):
            await ref.ask(Add(data=np.full(3, np.nan, np.float32)))
        assert (await ref.ask(Add(data=np.ones(3, np.float32)))).data.tolist() == [1, 1, 1]


async def test_only_the_newest_stays_unread() -> None:
    async with adder() as system:
        ref = system.ref("adder")
        await ref.tell(Wait())
        await all_blocked()
        for number in range(5):
            await ref.tell(Newest(number=number))
        actor = actor_of(system, "adder")
        actor.held.set()
        assert (await ref.ask(GetSeen())).values == [4]
        await ref.tell(Newest(number=5))
        assert (await ref.ask(GetSeen())).values == [4, 5]
        channel = ref._channel
        assert isinstance(channel, Channel)
        channels = channel.statistics()
        assert (channels.superseded, channels.outstanding, channels.outstanding_bytes) == (4, 0, 0)


async def test_a_circle_is_named() -> None:
    specs = [
        ActorSpec(name=name, cls=Circle, node=name, ports={"other": (other,)}, restart="never")
        for name, other in (("a", "b"), ("b", "a"))
    ]
    async with System(specs, transport=EncodedTransport()) as system:
        with pytest.raises(ActorDied, match=r"CircularWait: .* in a circle: a -> b -> a"):
            await system.ref("a").ask(AskOther())


async def test_types_that_cannot_be_serialized_are_refused_before_anything_runs() -> None:
    with pytest.raises(DefinitionError, match=r"Closed.hook is builtins.slice, which can't be serialized"):
        System([ActorSpec(name="it", cls=Closing)], transport=EncodedTransport())


async def test_asks_of_what_cannot_be_serialized_fail_with_the_reason() -> None:
    async with adder() as system:
        ref = system.ref("adder")
        with pytest.raises(
            ActorDied, match=r"undelivered: Add can't cross .* dtype object can't be serialized"
        ):
            await ref.ask(Add(data=np.array([object()])))
        with pytest.raises(ActorDied, match=r"undelivered: .*Expected an array of float32, got float64"):
            await ref.ask(Add(data=np.zeros(3)))  # type: ignore[arg-type]
        assert (await ref.ask(Add(data=np.ones(3, np.float32)))).data.tolist() == [1, 1, 1]
        assert system.statistics().undelivered == 2


async def test_what_cannot_be_serialized_is_a_dead_letter() -> None:
    specs = [
        ActorSpec(name="adder", cls=Adder),
        ActorSpec(name="teller", cls=Teller, ports={"other": ("adder",)}),
    ]
    async with System(specs, transport=EncodedTransport()) as system:
        await system.ref("teller").tell(Note(text="now"))
        await all_blocked()
        teller = actor_of(system, "teller")
        (dead,) = teller.dead
        assert dead.outcome is Outcome.UNDELIVERED
        assert dead.reason == (
            "Anything can't cross to another process: it can't be encoded: a builtins.object can't be"
            " serialized"
        )
        channels = system.statistics().actors[1].channels
        assert [
            (channel.undelivered, channel.outstanding, channel.outstanding_bytes) for channel in channels
        ] == [(1, 0, 0)]
