"""What one node has to do with another: letters in both directions, their answers, and what is left of them
when one of the two dies."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import anyio
from numpy.typing import NDArray

from .border import Border
from .contract import Contract
from .ledger import Fate
from .letter import Letter, Outcome
from .message import Message, seal
from .registry import WireError
from .transport import CircleFound, Inbox, Stream
from .wire import MAX_LETTERS, Answers, Ended, Found, Packer, Parts, Probe, Reply, Run, Unpacker

log = logging.getLogger("actorq.actors")

FRAME_BYTES = 1024 * 1024
"""No more letters are put into a frame that has so many bytes already."""

MAX_PROBES = 1024
"""So many circles are looked for at a time; of more, the oldest are forgotten."""

LETTERS_OF_ONE_LIFE = 1 << 40
"""Numbers go on rising from one incarnation of a node to the next."""

_NOTHING = (type(None),)
_WITH_REASON = (Outcome.REFUSED, Outcome.UNDELIVERED, Outcome.IN_DOUBT)


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


class Received(Letter):
    """A letter from another node."""

    __slots__ = ("number", "source", "way")
    number: int
    source: int
    way: int


class ReceivedEnquiry(Received):
    """One whose sender waits for the answer."""

    __slots__ = ()
    wants_reply: ClassVar[bool] = True


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
        self._outbox: deque[Letter] = deque()
        self._newest: dict[tuple[str, str, type[Message]], Letter] = {}
        self._unsettled: dict[int, Letter] = {}
        self._next = border.ordinal * LETTERS_OF_ONE_LIFE + 1
        self._probes: OrderedDict[int, CircleFound] = OrderedDict()
        self._probes_made = 0
        self._desk = _Desk(border.into, self._answers, max_frame_bytes)

    @property
    def quiet(self) -> bool:
        """Nothing that was sent is unsettled."""
        return not self._unsettled and not self._outbox

    async def quieted(self) -> None:
        """Return when that is so."""
        while not self.quiet:
            self._quieted = anyio.Event()
            await self._quieted.wait()

    def _note_quiet(self) -> None:
        if self._quieted is not None and self.quiet:
            self._quieted.set()

    def meet(self, letters: Stream, answers: Stream, memory: SharedMemory | None) -> None:
        """Its present incarnation can be reached by these streams, and perhaps by shared memory."""
        self._letters, self._answers, self._memory = letters, answers, memory
        self._packer = Packer(memory.lend if memory is not None else None)
        self._unpacker = Unpacker(memory.borrow if memory is not None else None)
        self._desk.answers = answers
        letters.source, answers.source = self._next_letters, self._next_answers
        letters.wake()
        answers.wake()

    # To the other node.

    def deliver(self, letter: Letter) -> None:
        """Send a letter: an enquiry at once, with all that waits; others after this turn of the loop."""
        if self._gone:
            letter.origin.settle(letter, Outcome.UNDELIVERED, self._gone)
            return
        if not letter.charged:
            self._supersede(letter)
        self._outbox.append(letter)
        if letter.wants_reply:
            self._letters.flush()
        else:
            self._letters.wake()

    def _supersede(self, letter: Letter) -> None:
        key = (letter.sender, letter.target, type(letter.message))
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
        outbox, size = self._outbox, 0
        letters: list[Letter] = []
        if not outbox:
            return None
        while outbox and size < FRAME_BYTES and len(letters) < MAX_LETTERS:
            letter = outbox.popleft()
            if not letter.charged:
                self._newest.pop((letter.sender, letter.target, type(letter.message)), None)
            letters.append(letter)
            size += letter.size
        try:
            parts = self._packer.letters(self._border.out, self._next, letters)
        except WireError:
            self._outbox.extendleft(reversed(self._that_can_travel(letters)))
            return self._next_letters()
        first, self._next = self._next, self._next + len(letters)
        self._unsettled.update(zip(range(first, self._next), letters, strict=True))
        return parts

    def _that_can_travel(self, letters: list[Letter]) -> list[Letter]:
        """Send back those that can't."""
        good = []
        for letter in letters:
            try:
                Packer().letters(self._border.out, 0, [letter])
            except WireError as error:
                reason = f"{type(letter.message).__name__} can't cross to another process: {error}"
                letter.origin.settle(letter, Outcome.UNDELIVERED, reason)
            else:
                good.append(letter)
        return good

    # From the other node.

    def letters_received(self, frame: memoryview) -> None:
        """Put what a frame holds into the mailboxes. Raises WireError if nothing of it is to be trusted."""
        for run in self._unpacker.letters(self._border.into, frame):
            self._deliver_run(run)

    def _deliver_run(self, run: Run) -> None:
        way = self._border.into.ways[run.way]
        charged = not self._border.into.latest[run.way]
        kind = Received if run.chains is None else ReceivedEnquiry
        number, deliver, desk, source = run.first, self._inbox.deliver, self._desk, self._border.source
        for index, message in enumerate(run.messages):
            chain = () if run.chains is None else run.chains[index]
            letter = kind(message, run.sizes[index], way.sender, way.target, desk, chain)  # type: ignore[arg-type]
            letter.charged = charged
            letter.number, letter.source, letter.way = number, source, run.way
            number += 1
            if isinstance(message, WireError):
                log.error("a letter from %s to %s: %s", way.sender, way.target, message)
                desk.settle(letter, Outcome.UNDELIVERED, str(message))
            else:
                deliver(letter)

    def answers_received(self, frame: memoryview) -> None:
        """Settle what the other node has answered. Raises WireError for what it can't have been asked."""
        unsettled = self._unsettled
        answers = self._unpacker.answers(frame, self._replies_to)
        for first, count in zip(answers.handled[::2], answers.handled[1::2], strict=True):
            if count > len(unsettled):
                raise WireError(f"{self.name} answers {count} letters; {len(unsettled)} are on their way")
            for number in range(first, first + count):
                letter = unsettled.pop(number, None)
                if letter is not None:
                    letter.origin.settle(letter, Outcome.HANDLED)
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

        def found(chain: tuple[str, ...]) -> None:
            desk.sheet.found.append(Found(probe.number, chain))
            desk.answers.flush()

        self._inbox.probe(way.target, way.message, probe.chain, found)

    def let_go(self) -> None:
        """Arrays that were borrowed have been let go of: tell the neighbour."""
        self._answers.wake()

    def _next_answers(self) -> Parts | None:
        """The next frame's parts, of all answers there are."""
        if self._memory is not None:
            self._desk.sheet.freed += self._memory.take_let_go()
        if not self._desk.sheet:
            return None
        sheet = self._desk.take_sheet()
        try:
            return self._packer.answers(sheet)
        except WireError:
            sheet.replies = [reply for reply in sheet.replies if self._can_travel(reply, sheet)]
            return self._packer.answers(sheet)

    def _can_travel(self, reply: Reply, sheet: Answers) -> bool:
        try:
            Packer().answers(Answers(replies=[reply]))
        except WireError as error:
            reason = f"the reply, {type(reply.payload).__name__}, can't cross to another process: {error}"
            log.error("%s: %s", self.name, reason)
            sheet.ended.append(Ended(reply.number, Outcome.REFUSED, reason))
            return False
        return True

    # The other node's death.

    def part(self, page: bytes | None, reason: str) -> None:
        """It has died. `page` is its ledger: without one, all that it was sent may have been begun.

        Asks fail. What was certainly not begun waits for its successor.
        """
        self._letters, self._answers, self._memory = _Nowhere(), _Nowhere(), None
        self._packer, self._unpacker = Packer(), Unpacker()
        self._desk.close()
        self._desk = _Desk(self._border.into, self._answers, self._max_frame_bytes)
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


class _Desk:
    """Where the outcomes of what came from one incarnation of the other node are collected."""

    def __init__(self, contract: Contract, answers: Stream, max_frame_bytes: int) -> None:
        self.sheet = Answers()
        self.answers = answers
        self._contract = contract
        self._max_bytes = max_frame_bytes - FRAME_BYTES
        self._reply_sizes: list[int] = []
        self._open = True

    def close(self) -> None:
        """Nobody waits for these answers any more."""
        self._open = False
        self.sheet = Answers()

    def settle(self, letter: Letter, outcome: Outcome, answer: Any = None) -> None:
        if not self._open or not isinstance(letter, Received):
            return
        number = letter.number
        if outcome is not Outcome.HANDLED:
            reason = str(answer) if outcome in _WITH_REASON else ""
            circle = answer if outcome is Outcome.CIRCULAR else ()
            self.sheet.ended.append(Ended(number, outcome, reason, circle))
        elif not letter.wants_reply or self._contract.replies[letter.way] == _NOTHING:
            self._note_handled(number)
        else:
            self._reply(letter, answer)
        if letter.wants_reply:
            self.answers.flush()
        else:
            self.answers.wake()

    def take_sheet(self) -> Answers:
        """What is to be told, but no more replies than a frame should hold; those that are left come next."""
        sheet, self.sheet = self.sheet, Answers()
        sizes, taken, total = self._reply_sizes, 0, 0
        while taken < len(sizes) and (not taken or total + sizes[taken] <= FRAME_BYTES):
            total += sizes[taken]
            taken += 1
        self.sheet.replies = sheet.replies[taken:]
        del sheet.replies[taken:], sizes[:taken]
        return sheet

    def _note_handled(self, number: int) -> None:
        handled = self.sheet.handled
        if handled and handled[-2] + handled[-1] == number:
            handled[-1] += 1
        else:
            handled += (number, 1)

    def _reply(self, letter: Received, answer: Any) -> None:
        kinds = self._contract.replies[letter.way]
        size = seal(answer) if answer is not None else 0
        if size > self._max_bytes:
            reason = f"the reply of {size} bytes is too large for a frame of {self._max_bytes}"
            log.error("%s: %s", letter.target, reason)
            self.sheet.ended.append(Ended(letter.number, Outcome.REFUSED, reason))
            return
        try:
            self.sheet.replies.append(Reply(letter.number, kinds.index(type(answer)), answer))
            self._reply_sizes.append(size)
        except ValueError:
            asked = " or ".join(kind.__name__ for kind in kinds)
            reason = f"the reply is a {type(answer).__name__}; to another process only {asked} itself can go"
            log.error("%s: %s", letter.target, reason)
            self.sheet.ended.append(Ended(letter.number, Outcome.REFUSED, reason))
