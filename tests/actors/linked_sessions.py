"""Two peer sessions for tests, joined by streams that deliver frames when the test decides."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import msgpack

from actorq.actors import Actor, ActorSpec, Ref, handles
from actorq.actors.message import HEADER_BYTES, Message, Request
from actorq.actors.runtime.envelope import Envelope, Outcome, RequestEnvelope
from actorq.actors.runtime.inbox import CycleFound
from actorq.actors.runtime.mailbox import MailboxQueue
from actorq.actors.runtime.scheduler import ConcurrentScheduler
from actorq.actors.supervision.delivery_log import DeliveryLog
from actorq.actors.wire.link_schema import LinkSchema
from actorq.actors.wire.peer_session import PeerSession, SharedMemory
from actorq.actors.wire.reply_buffer import Received
from actorq.actors.wire.transport import NextFrame

from .messages import Add, Block, Echo, GetTotal, Measure, Nothing, Text, Total, Weights
from .world import spec

MAX_FRAME_BYTES = 32 * 2**20

Carried = Add | Text | Block | Weights | Echo | Measure | GetTotal | Nothing


class Boss(Actor):
    worker: Ref[Carried]


class Worker(Actor):
    @handles
    async def receive(self, message: Add | Text | Block | Weights) -> None:
        pass

    @handles
    async def echo(self, request: Echo) -> Text:
        return Text(request.text)

    @handles
    async def get_total(self, request: GetTotal | Measure) -> Total:
        return Total(0)

    @handles
    async def nothing(self, request: Nothing) -> None:
        pass


def specs() -> dict[str, ActorSpec]:
    boss = spec("boss", Boss, {"worker": "worker"})
    return {"boss": boss, "worker": spec("worker", Worker, node="far")}


class Pipe:
    """A stream one way: takes frames while it is open, and delivers them one by one."""

    def __init__(
        self, next_frame: NextFrame, receive: Callable[[memoryview], None], is_open: bool = True
    ) -> None:
        self.next_frame = next_frame
        self.receive = receive
        self.open = is_open
        self.frames: deque[bytes] = deque()
        self.woken = False

    def flush(self) -> None:
        while self.open and (parts := self.next_frame()) is not None:
            self.frames.append(b"".join(parts))

    def wake(self) -> None:
        self.woken = True

    def turn(self) -> None:
        """The loop's present turn is over."""
        if self.woken:
            self.woken = False
            self.flush()

    def deliver(self) -> None:
        """Let the next frame arrive."""
        self.receive(memoryview(self.frames.popleft()))

    def carry(self) -> None:
        """Whatever there is."""
        self.turn()
        while self.frames:
            self.deliver()


class Sender:
    """Remembers how its messages have ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[Envelope, Outcome, Any]] = []

    def settle(self, envelope: Envelope, outcome: Outcome, answer: Any = None) -> None:
        self.ended.append((envelope, outcome, answer))

    def settle_handled(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self.settle(envelope, Outcome.HANDLED)

    def outcomes(self) -> list[tuple[Outcome, Any]]:
        """Since the last call."""
        found = [(outcome, answer) for _, outcome, answer in self.ended]
        self.ended.clear()
        return found


class Mailbox:
    """The far side's one mailbox queue, handled by the test."""

    def __init__(self) -> None:
        self.mailbox = MailboxQueue("worker", 1, ConcurrentScheduler())
        self.probes: list[tuple[str, type[Message], tuple[str, ...], CycleFound]] = []

    def deliver(self, envelope: Envelope) -> None:
        if envelope.message.delivery == "latest":
            self.mailbox.put_newest(envelope)
        else:
            self.mailbox.put(envelope)

    def deliver_run(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self.deliver(envelope)

    def probe(self, target: str, message: type[Message], chain: tuple[str, ...], found: CycleFound) -> None:
        self.probes.append((target, message, chain, found))

    def messages(self) -> list[Message]:
        return [envelope.message for envelope in self.mailbox.queue]

    def begin(self) -> Envelope:
        envelope = self.mailbox.take()
        self.mailbox.begin(envelope)
        return envelope

    def end(self, outcome: Outcome = Outcome.HANDLED, answer: Any = None) -> None:
        envelope = self.mailbox.in_progress.pop()
        envelope.reply_to.settle(envelope, outcome, answer)
        self.mailbox.note_ended(envelope)

    def handle(self, outcome: Outcome = Outcome.HANDLED, answer: Any = None) -> Envelope:
        envelope = self.begin()
        self.end(outcome, answer)
        return envelope


class Far:
    """One incarnation of the node `far`, with a delivery log that outlives it."""

    def __init__(self, incarnation: int = 0, main_incarnation: int = 0) -> None:
        self.link_schema = LinkSchema(specs(), "far", "main", incarnation)
        self.mailbox = Mailbox()
        self.memory = bytearray(self.link_schema.layout.nbytes + 1000)
        layout = LinkSchema(specs(), "main", "far", main_incarnation).layout
        self.mailbox.mailbox.delivery_log = DeliveryLog(layout, memoryview(self.memory)).mailbox(
            "worker", None
        )
        self.peer_session = PeerSession(self.link_schema, self.mailbox, MAX_FRAME_BYTES)
        self._nbytes = layout.nbytes

    def page(self) -> bytes:
        return bytes(self.memory[: self._nbytes])


class Sides:
    """The node `main`, of which the test is the only sender, and the present incarnation of `far`."""

    def __init__(self, incarnation: int = 0) -> None:
        self.sender = Sender()
        self.mailbox = Mailbox()
        self.main = PeerSession(
            LinkSchema(specs(), "main", "far", incarnation), self.mailbox, MAX_FRAME_BYTES
        )

    def peer_up(
        self, is_open: bool = True, here: SharedMemory | None = None, there: SharedMemory | None = None
    ) -> "Sides":
        self.far = Far()
        far = self.far.peer_session
        self.envelopes = Pipe(self.main.next_envelopes, far.envelopes_received, is_open)
        self.answers = Pipe(far.next_answers, self.main.answers_received)
        self.far_envelopes = Pipe(far.next_envelopes, self.main.envelopes_received)
        self.far_answers = Pipe(self.main.next_answers, far.answers_received)
        self.main.peer_up(self.envelopes, self.far_answers, here)
        far.peer_up(self.far_envelopes, self.answers, there)
        return self

    def tell(self, message: Message, size: int = HEADER_BYTES) -> Envelope:
        envelope = Envelope(message, size, "boss", "worker", self.sender, ())
        envelope.charged = message.delivery == "each"
        self.main.deliver(envelope)
        return envelope

    def ask(self, request: Request[Any], chain: tuple[str, ...] = ()) -> Envelope:
        event: Any = None
        envelope = RequestEnvelope(request, HEADER_BYTES, "boss", "worker", self.sender, chain, event)
        self.main.deliver(envelope)
        return envelope

    def carry(self) -> None:
        """Let all arrive that is on its way, messages first."""
        for pipe in (self.envelopes, self.far_envelopes, self.answers, self.far_answers):
            pipe.carry()

    def received(self) -> list[Message]:
        self.carry()
        return self.far.mailbox.messages()

    def die(self, with_page: bool = True, reason: str = "node far was killed") -> None:
        """The far node does, and with it all that is on its way."""
        self.main.peer_down(self.far.page() if with_page else None, reason)


def numbers(envelopes: list[Envelope]) -> list[int]:
    return [envelope.number for envelope in envelopes if isinstance(envelope, Received)]


def forged(
    handled: Any = (), ended: Any = (), replies: Any = (), probes: Any = (), found: Any = (), freed: Any = ()
) -> memoryview:
    """A frame of answers that says this, whatever it is."""
    head = msgpack.encode([handled, ended, replies, probes, found, freed, []])
    return memoryview(len(head).to_bytes(4, "little") + bytes(4) + head)


def unsendable() -> Text:
    """No frame can hold it."""
    return Text("\ud800")


def opened(sides: Sides) -> None:
    """Messages can be sent again."""
    sides.envelopes.open = True
    sides.envelopes.flush()
