"""Two neighbours for tests, joined by streams whose frames go and arrive when the test says."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import msgpack

from actorq.actors import Actor, ActorSpec, Ref, handles
from actorq.actors.message import HEADER_BYTES, Message, Request
from actorq.actors.runtime.envelope import Enquiry, Letter, Outcome
from actorq.actors.runtime.mailbox import Lane
from actorq.actors.runtime.scheduler import FreeScheduler
from actorq.actors.supervision.delivery_log import Ledger
from actorq.actors.wire.link_schema import Border
from actorq.actors.wire.peer_session import Neighbour, SharedMemory
from actorq.actors.wire.reply_buffer import Received
from actorq.actors.wire.transport import CircleFound

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

    def __init__(self, receive: Callable[[memoryview], None], is_open: bool = True) -> None:
        self.source: Callable[[], Any] = lambda: None
        self.receive = receive
        self.open = is_open
        self.frames: deque[bytes] = deque()
        self.woken = False

    def flush(self) -> None:
        while self.open and (parts := self.source()) is not None:
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
    """Remembers how its letters have ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[Letter, Outcome, Any]] = []

    def settle(self, letter: Letter, outcome: Outcome, answer: Any = None) -> None:
        self.ended.append((letter, outcome, answer))

    def settle_handled(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            self.settle(letter, Outcome.HANDLED)

    def outcomes(self) -> list[tuple[Outcome, Any]]:
        """Since the last call."""
        found = [(outcome, answer) for _, outcome, answer in self.ended]
        self.ended.clear()
        return found


class Mailbox:
    """The far side's one lane, handled by the test."""

    def __init__(self) -> None:
        self.lane = Lane("worker", 1, FreeScheduler())
        self.probes: list[tuple[str, type[Message], tuple[str, ...], CircleFound]] = []

    def deliver(self, letter: Letter) -> None:
        if letter.message.delivery == "latest":
            self.lane.put_newest(letter)
        else:
            self.lane.put(letter)

    def deliver_run(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            self.deliver(letter)

    def probe(self, target: str, message: type[Message], chain: tuple[str, ...], found: CircleFound) -> None:
        self.probes.append((target, message, chain, found))

    def messages(self) -> list[Message]:
        return [letter.message for letter in self.lane.queue]

    def begin(self) -> Letter:
        letter = self.lane.take()
        self.lane.begin(letter)
        return letter

    def end(self, outcome: Outcome = Outcome.HANDLED, answer: Any = None) -> None:
        letter = self.lane.at_hand.pop()
        letter.origin.settle(letter, outcome, answer)
        self.lane.note_ended(letter)

    def handle(self, outcome: Outcome = Outcome.HANDLED, answer: Any = None) -> Letter:
        letter = self.begin()
        self.end(outcome, answer)
        return letter


class Far:
    """One incarnation of the node `far`, with a ledger that outlives it."""

    def __init__(self, incarnation: int = 0, main_incarnation: int = 0) -> None:
        self.border = Border(specs(), "far", "main", incarnation)
        self.mailbox = Mailbox()
        self.memory = bytearray(self.border.layout.nbytes + 1000)
        layout = Border(specs(), "main", "far", main_incarnation).layout
        self.mailbox.lane.ledger = Ledger(layout, memoryview(self.memory)).lane("worker", None)
        self.neighbour = Neighbour(self.border, self.mailbox, MAX_FRAME_BYTES)
        self._nbytes = layout.nbytes

    def page(self) -> bytes:
        return bytes(self.memory[: self._nbytes])


class Sides:
    """The node `main`, of which the test is the only sender, and the present incarnation of `far`."""

    def __init__(self, incarnation: int = 0) -> None:
        self.sender = Sender()
        self.mailbox = Mailbox()
        self.main = Neighbour(Border(specs(), "main", "far", incarnation), self.mailbox, MAX_FRAME_BYTES)

    def meet(
        self, is_open: bool = True, here: SharedMemory | None = None, there: SharedMemory | None = None
    ) -> "Sides":
        self.far = Far()
        far = self.far.neighbour
        self.letters = Pipe(far.letters_received, is_open)
        self.answers = Pipe(self.main.answers_received)
        self.far_letters = Pipe(self.main.letters_received)
        self.far_answers = Pipe(far.answers_received)
        self.main.meet(self.letters, self.far_answers, here)
        far.meet(self.far_letters, self.answers, there)
        return self

    def tell(self, message: Message, size: int = HEADER_BYTES) -> Letter:
        letter = Letter(message, size, "boss", "worker", self.sender, ())
        letter.charged = message.delivery == "each"
        self.main.deliver(letter)
        return letter

    def ask(self, request: Request[Any], chain: tuple[str, ...] = ()) -> Letter:
        event: Any = None
        letter = Enquiry(request, HEADER_BYTES, "boss", "worker", self.sender, chain, event)
        self.main.deliver(letter)
        return letter

    def carry(self) -> None:
        """Let all arrive that is on its way, letters first."""
        for pipe in (self.letters, self.far_letters, self.answers, self.far_answers):
            pipe.carry()

    def received(self) -> list[Message]:
        self.carry()
        return self.far.mailbox.messages()

    def die(self, with_page: bool = True, reason: str = "node far was killed") -> None:
        """The far node does, and with it all that is on its way."""
        self.main.part(self.far.page() if with_page else None, reason)


def numbers(letters: list[Letter]) -> list[int]:
    return [letter.number for letter in letters if isinstance(letter, Received)]


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
    """Letters can be sent again."""
    sides.letters.open = True
    sides.letters.flush()
