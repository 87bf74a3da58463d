"""What one node has to do with another: letters in both directions, their answers, and what is left of them
when one of the two dies."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, groupby, repeat
from operator import attrgetter
from typing import Any, Protocol

import anyio
from numpy.typing import NDArray

from actorq.actors.message import Message
from actorq.actors.runtime.envelope import Letter, Outcome
from actorq.actors.supervision.delivery_log import Fate

from .codec import LARGE_BYTES, MAX_LETTERS, Answers, Ended, Packer, Parts, Probe, Run, Unpacker
from .link_schema import Border
from .registry import WireError
from .reply_buffer import FRAME_BYTES, Desk, Received, ReceivedEnquiry, sendable
from .transport import CircleFound, Inbox, Stream

log = logging.getLogger("actorq.actors")

MANY_LETTERS = 256

MAX_PROBES = 1024
"""So many circles are looked for at a time; of more, the oldest are forgotten."""

LETTERS_OF_ONE_LIFE = 1 << 40
"""Numbers go on rising from one incarnation of a node to the next."""


class SharedMemory(Protocol):
    """Where large arrays lie for both sides, if they are on one machine."""

    def lend(self, array: NDArray[Any]) -> int | None: ...
    def freed(self, offset: int) -> None:
        """The neighbour has let go of an array that was lent to it."""
        ...

    def borrow(self, offset: int, nbytes: int) -> Any: ...
    def take_let_go(self) -> list[int]:
        """The offsets of what was borrowed and is not used any more, since the last call."""
        ...


class Neighbour:
    """The way to one other node, and its answers to what has come from there.

    It stays when the node is started again: what it had certainly not begun goes to its successor.
    """

    def __init__(self, border: Border, inbox: Inbox, max_frame_bytes: int) -> None:
        self.name = border.neighbour
        self._border = border
        self._inbox = inbox
        self._max_frame_bytes = max_frame_bytes
        self._letters: Stream = _Nowhere()
        self._answers: Stream = _Nowhere()
        self._memory: SharedMemory | None = None
        self._packer, self._unpacker = Packer(), Unpacker()
        self._gone = ""
        self._quieted: anyio.Event | None = None
        self._awake = False
        """The stream was told that something waits, and hasn't found yet that nothing does."""
        self._outbox: deque[Letter] = deque()
        self._newest: dict[tuple[str, str, type[Message]], Letter] = {}
        self._unsettled: dict[int, Letter] = {}
        self._next = border.ordinal * LETTERS_OF_ONE_LIFE + 1
        self._probes: OrderedDict[int, CircleFound] = OrderedDict()
        self._probes_made = 0
        self._desk = Desk(border.into, self._answers, max_frame_bytes)

    @property
    def quiet(self) -> bool:
        """Nothing that was sent is unsettled."""
        return not self._unsettled and not self._outbox

    async def quieted(self) -> None:
        """Return when that is so."""
        while not self.quiet:
            if self._quieted is None or self._quieted.is_set():
                self._quieted = anyio.Event()
            await self._quieted.wait()

    def _note_quiet(self) -> None:
        if self._quieted is not None and self.quiet:
            self._quieted.set()

    def meet(self, letters: Stream, answers: Stream, memory: SharedMemory | None) -> None:
        """Its present incarnation can be reached by these streams, and perhaps by shared memory."""
        self._letters, self._answers, self._memory = letters, answers, memory
        if memory is not None:
            self._packer, self._unpacker = Packer(memory.lend, memory.freed), Unpacker(memory.borrow)
        self._desk.answers = answers
        letters.source, answers.source = self._next_letters, self._next_answers
        letters.wake()
        answers.wake()

    # To the other node.

    def deliver(self, letter: Letter) -> None:
        """Send a letter: an enquiry or a large one at once, with all that waits; others together.

        They leave after this turn of the loop, or when they are many, so that the other process can begin.
        """
        if self._gone:
            letter.origin.settle(letter, Outcome.UNDELIVERED, self._gone)
            return
        if not letter.charged:
            self._supersede(letter)
        self._outbox.append(letter)
        if letter.wants_reply or letter.size >= LARGE_BYTES or not len(self._outbox) % MANY_LETTERS:
            self._letters.flush()
        elif not self._awake:
            self._awake = True
            self._letters.wake()

    def deliver_run(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            self.deliver(letter)

    def _supersede(self, letter: Letter) -> None:
        key = _key(letter)
        older = self._newest.get(key)
        self._newest[key] = letter
        if older is not None:
            self._outbox.remove(older)
            older.origin.settle(older, Outcome.SUPERSEDED)

    def probe(self, target: str, message: type[Message], chain: tuple[str, ...], found: CircleFound) -> None:
        """Look for a circle beyond the border. Never waits behind letters."""
        ways = enumerate(self._border.out.ways)
        number = next((n for n, way in ways if (way.target, way.message) == (target, message)), None)
        if number is None:
            return
        self._probes_made += 1
        self._probes[self._probes_made] = found
        if len(self._probes) > MAX_PROBES:
            self._probes.popitem(last=False)
        self._desk.sheet.probes.append(Probe(self._probes_made, number, chain))
        self._answers.flush()

    def _next_letters(self) -> Parts | None:
        """The next frame's parts, of as much of the outbox as goes into one."""
        at_most = MAX_LETTERS
        while self._outbox:
            letters = self._take_out(at_most)
            try:
                parts = self._packer.letters(self._border.out, self._next, letters)
            except WireError as error:
                # One of them can't travel, or they are too much together: half of them are tried next.
                at_most = max(1, len(letters) // 2)
                if len(letters) > 1:
                    self._put_back(letters)
                else:
                    self._return_to_sender(letters[0], error)
                continue
            first, self._next = self._next, self._next + len(letters)
            self._unsettled.update(zip(range(first, self._next), letters, strict=True))
            return parts
        self._awake = False
        return None

    def _take_out(self, at_most: int) -> list[Letter]:
        outbox, size = self._outbox, 0
        letters: list[Letter] = []
        while outbox and size < FRAME_BYTES and len(letters) < at_most:
            letter = outbox.popleft()
            if not letter.charged:
                del self._newest[_key(letter)]
            letters.append(letter)
            size += letter.size
        return letters

    def _put_back(self, letters: list[Letter]) -> None:
        for letter in reversed(letters):
            self._outbox.appendleft(letter)
            if not letter.charged:
                self._newest[_key(letter)] = letter

    def _return_to_sender(self, letter: Letter, error: WireError) -> None:
        reason = f"{type(letter.message).__name__} can't cross to another process: {error}"
        letter.origin.settle(letter, Outcome.UNDELIVERED, reason)
        self._note_quiet()

    # From the other node.

    def letters_received(self, frame: memoryview) -> None:
        """Put what a frame holds into the mailboxes. Raises WireError if nothing of it is to be trusted."""
        for run in self._unpacker.letters(self._border.into, frame):
            self._deliver_run(run)

    def _deliver_run(self, run: Run) -> None:
        way = self._border.into.ways[run.way]
        desk, source, charged = self._desk, self._border.source, not self._border.into.latest[run.way]
        sender, target, number = way.sender, way.target, run.way
        kind = Received if run.chains is None else ReceivedEnquiry
        each = zip(count(run.first), run.messages, run.sizes, run.chains or repeat(()))
        letters = [
            kind(message, size, sender, target, desk, chain, charged, at, source, number)
            for at, message, size, chain in each
        ]
        if run.whole:
            self._inbox.deliver_run(letters)
            return
        for letter in letters:
            if isinstance(letter.message, WireError):
                log.error("a letter from %s to %s: %s", sender, target, letter.message)
                desk.settle(letter, Outcome.UNDELIVERED, str(letter.message))
            else:
                self._inbox.deliver(letter)

    def answers_received(self, frame: memoryview) -> None:
        """Settle what the other node has answered. Raises WireError for what it can't have been asked."""
        answers = self._unpacker.answers(frame, self._replies_to)
        for first, number in zip(answers.handled[::2], answers.handled[1::2], strict=True):
            if number > len(self._unsettled):
                raise WireError(
                    f"{self.name} answers {number} letters; {len(self._unsettled)} are on their way"
                )
            self._handled(range(first, first + number))
        for ended in answers.ended:
            answer: Any = ended.circle if ended.outcome is Outcome.CIRCULAR else ended.reason
            self._settle(ended.number, ended.outcome, answer)
        for reply in answers.replies:
            if isinstance(reply.payload, WireError):
                self._settle(reply.number, Outcome.REFUSED, str(reply.payload))
            else:
                self._settle(reply.number, Outcome.HANDLED, reply.payload)
        for probe in answers.probes:
            self._follow(probe)
        for back in answers.found:
            found = self._probes.pop(back.number, None)
            if found is not None:
                found(back.chain)
        if self._memory is not None:
            for offset in answers.freed:
                self._memory.freed(offset)
        self._note_quiet()

    def _handled(self, numbers: range) -> None:
        """These letters need no reply. Settled together, as far as neighbouring ones have one sender."""
        found = [(number, self._unsettled[number]) for number in numbers if number in self._unsettled]
        for number, letter in found:
            if letter.wants_reply and type(None) not in self._replies_to(number):
                raise WireError(f"{self.name} says that {number} is handled, and doesn't reply")
        letters = [self._unsettled.pop(number) for number, _ in found]
        for origin, stretch in groupby(letters, attrgetter("origin")):
            origin.settle_handled(list(stretch))

    def _replies_to(self, number: int) -> tuple[Any, ...]:
        letter = self._unsettled.get(number)
        if letter is None or not letter.wants_reply:
            raise WireError(f"{self.name} replies to {number}, which it was not asked")
        contract = self._border.out
        return contract.replies[contract.numbers[letter.sender, letter.target, type(letter.message)]]

    def _settle(self, number: int, outcome: Outcome, answer: Any) -> None:
        letter = self._unsettled.pop(number, None)
        if letter is not None:
            letter.origin.settle(letter, outcome, answer)

    def _follow(self, probe: Probe) -> None:
        ways = self._border.into.ways
        if probe.way >= len(ways):
            raise WireError(f"{self.name} follows a wait on way {probe.way} of {len(ways)}")
        desk, way = self._desk, ways[probe.way]

        self._inbox.probe(way.target, way.message, probe.chain, partial(desk.found, probe.number))

    def let_go(self) -> None:
        """Arrays that were borrowed have been let go of: tell the neighbour."""
        self._answers.wake()

    def _next_answers(self) -> Parts | None:
        """The next frame's parts, of as much of the answers as goes into one."""
        if self._memory is not None:
            self._desk.sheet.freed += self._memory.take_let_go()
        if not self._desk.busy:
            self._desk.awake = False
            return None
        sheet = self._desk.take_sheet()
        while True:
            try:
                return self._packer.answers(sheet)
            except WireError as error:
                if not sheet.replies:
                    raise
                if len(sheet.replies) > 1:
                    self._desk.put_back(sheet)
                else:
                    self._refuse_reply(sheet, error)

    def _refuse_reply(self, sheet: Answers, error: WireError) -> None:
        reply = sheet.replies.pop()
        reason = f"the reply, {type(reply.payload).__name__}, can't cross to another process: {error}"
        log.error("%s: %s", self.name, reason)
        sheet.ended.append(Ended(reply.number, Outcome.REFUSED, sendable(reason)))

    # The other node's death.

    def part(self, page: bytes | None, reason: str) -> None:
        """It has died. `page` is its ledger: without one, all that it was sent may have been begun.

        Asks fail. What was certainly not begun waits for its successor.
        """
        self._letters, self._answers, self._memory = _Nowhere(), _Nowhere(), None
        self._awake = False
        self._packer, self._unpacker = Packer(), Unpacker()
        self._desk.close()
        self._desk = Desk(self._border.into, self._answers, self._max_frame_bytes)
        self._probes.clear()
        unsettled, self._unsettled = self._unsettled, {}
        again: list[Letter] = []
        for number, letter in unsettled.items():
            fate = self._fate(page, letter, number)
            if fate is Fate.NOT_BEGUN and not letter.wants_reply:
                again.append(letter)
            elif fate is Fate.NOT_BEGUN:
                letter.origin.settle(letter, Outcome.UNDELIVERED, reason)
            elif fate is Fate.DONE and not letter.wants_reply:
                letter.origin.settle(letter, Outcome.HANDLED)
            else:
                lost = f"{reason}, and the reply was lost with it" if fate is Fate.DONE else reason
                letter.origin.settle(letter, Outcome.IN_DOUBT, lost)
        waiting = [*again, *self._outbox]
        self._outbox.clear()
        self._newest.clear()
        for letter in waiting:
            if letter.wants_reply:
                letter.origin.settle(letter, Outcome.UNDELIVERED, reason)
                continue
            if not letter.charged:
                self._supersede(letter)
            self._outbox.append(letter)
        self._note_quiet()

    def _fate(self, page: bytes | None, letter: Letter, number: int) -> Fate:
        if page is None:
            return Fate.AT_HAND
        border = self._border
        return border.layout.fate(page, border.me, letter.target, type(letter.message), number)

    def bury(self, reason: str) -> None:
        """It won't be started again: everything comes back, now and from now on."""
        self._gone = reason
        while self._outbox:
            letter = self._outbox.popleft()
            letter.origin.settle(letter, Outcome.UNDELIVERED, reason)
        self._note_quiet()


def _key(letter: Letter) -> tuple[str, str, type[Message]]:
    """Of `latest` letters with equal keys, only the newest is sent."""
    return letter.sender, letter.target, type(letter.message)


class _Nowhere:
    """While the other node isn't there: what is to go there waits."""

    def __init__(self) -> None:
        self.source: Callable[[], Any] = _nothing

    def flush(self) -> None:
        pass

    def wake(self) -> None:
        pass


def _nothing() -> None:
    pass
