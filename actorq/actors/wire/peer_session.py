"""Session with one remote node: messages in both directions, their outcomes, recovery when the node dies."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from functools import partial
from itertools import count, groupby, repeat
from operator import attrgetter
from typing import Any, Protocol

import anyio
from numpy.typing import NDArray

from actorq.actors.message import Message
from actorq.actors.runtime.envelope import Envelope, Outcome
from actorq.actors.runtime.inbox import CycleFound, Inbox
from actorq.actors.supervision.delivery_log import DeliveryState

from .codec import (
    LARGE_BYTES,
    MAX_ENVELOPES,
    Answers,
    EnvelopeEnded,
    EnvelopeRun,
    Packer,
    Parts,
    Probe,
    Unpacker,
)
from .link_schema import LinkSchema
from .registry import WireError
from .reply_buffer import FRAME_BYTES, Received, ReceivedRequest, ReplyBuffer, sendable
from .transport import Stream

log = logging.getLogger("actorq.actors")

MANY_ENVELOPES = 256

MAX_PROBES = 1024
"""Bound on deadlock probes in flight; beyond it the oldest are dropped."""

ENVELOPES_PER_INCARNATION = 1 << 40
"""Range of message numbers for each incarnation of a node, so that numbers rise from one to the next."""


class SharedMemory(Protocol):
    """Shared memory with a peer on the same machine, for large arrays."""

    def lend(self, array: NDArray[Any]) -> int | None: ...
    def freed(self, offset: int) -> None:
        """The peer has released an array that was lent to it."""
        ...

    def borrow(self, offset: int, nbytes: int) -> Any: ...
    def take_let_go(self) -> list[int]:
        """Offsets of borrowed arrays that were released since the last call."""
        ...


class PeerSession:
    """Association with one remote node: outbox, unsettled messages, and the replies to what it has sent.

    It survives restarts of the node: messages that had certainly not started are sent to the next
    incarnation.
    """

    def __init__(self, link_schema: LinkSchema, inbox: Inbox, max_frame_bytes: int) -> None:
        self.name = link_schema.peer
        self._link_schema = link_schema
        self._inbox = inbox
        self._max_frame_bytes = max_frame_bytes
        self._envelopes: Stream = _Nowhere()
        self._answers: Stream = _Nowhere()
        self._memory: SharedMemory | None = None
        self._packer, self._unpacker = Packer(), Unpacker()
        self._gone = ""
        self._quieted: anyio.Event | None = None
        self._awake = False
        """True from `wake` until the stream has found the outbox empty."""
        self._outbox: deque[Envelope] = deque()
        self._newest: dict[tuple[str, str, type[Message]], Envelope] = {}
        self._unsettled: dict[int, Envelope] = {}
        self._next = link_schema.ordinal * ENVELOPES_PER_INCARNATION + 1
        self._probes: OrderedDict[int, CycleFound] = OrderedDict()
        self._probes_made = 0
        self._reply_buffer = ReplyBuffer(link_schema.into, self._answers, max_frame_bytes)

    @property
    def quiet(self) -> bool:
        """True if every sent message is settled."""
        return not self._unsettled and not self._outbox

    async def quieted(self) -> None:
        """Return when `quiet`."""
        while not self.quiet:
            if self._quieted is None or self._quieted.is_set():
                self._quieted = anyio.Event()
            await self._quieted.wait()

    def _note_quiet(self) -> None:
        if self._quieted is not None and self.quiet:
            self._quieted.set()

    def peer_up(self, envelopes: Stream, answers: Stream, memory: SharedMemory | None) -> None:
        """The peer's present incarnation is connected by these streams, and by shared memory on the same
        machine.
        """
        self._envelopes, self._answers, self._memory = envelopes, answers, memory
        if memory is not None:
            self._packer, self._unpacker = Packer(memory.lend, memory.freed), Unpacker(memory.borrow)
        self._reply_buffer.answers = answers
        envelopes.wake()
        answers.wake()

    # Sending.

    def deliver(self, envelope: Envelope) -> None:
        """Queue a message: a request or a large message is sent at once, with everything queued; others are
        collected.

        Collected messages leave at the end of the loop's turn, or earlier when they are many, so that the
        other process can begin.
        """
        if self._gone:
            envelope.reply_to.settle(envelope, Outcome.UNDELIVERED, self._gone)
            return
        if not envelope.charged:
            self._supersede(envelope)
        self._outbox.append(envelope)
        if envelope.wants_reply or envelope.size >= LARGE_BYTES or not len(self._outbox) % MANY_ENVELOPES:
            self._envelopes.flush()
        elif not self._awake:
            self._awake = True
            self._envelopes.wake()

    def deliver_run(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self.deliver(envelope)

    def _supersede(self, envelope: Envelope) -> None:
        key = _key(envelope)
        older = self._newest.get(key)
        self._newest[key] = envelope
        if older is not None:
            self._outbox.remove(older)
            older.reply_to.settle(older, Outcome.SUPERSEDED)

    def probe(self, target: str, message: type[Message], chain: tuple[str, ...], found: CycleFound) -> None:
        """Continue deadlock detection in the peer's process. Never queued behind messages."""
        routes = enumerate(self._link_schema.out.routes)
        number = next((n for n, route in routes if (route.target, route.message) == (target, message)), None)
        if number is None:
            return
        self._probes_made += 1
        self._probes[self._probes_made] = found
        if len(self._probes) > MAX_PROBES:
            self._probes.popitem(last=False)
        self._reply_buffer.ack_batch.probes.append(Probe(self._probes_made, number, chain))
        self._answers.flush()

    def next_envelopes(self) -> Parts | None:
        """The parts of the next frame, with as many messages of the outbox as fit."""
        at_most = MAX_ENVELOPES
        while self._outbox:
            envelopes = self._take_out(at_most)
            try:
                parts = self._packer.envelopes(self._link_schema.out, self._next, envelopes)
            except WireError as error:
                # One of them can't be encoded, or together they are too large: half of them are tried next.
                at_most = max(1, len(envelopes) // 2)
                if len(envelopes) > 1:
                    self._put_back(envelopes)
                else:
                    self._return_to_sender(envelopes[0], error)
                continue
            first, self._next = self._next, self._next + len(envelopes)
            self._unsettled.update(zip(range(first, self._next), envelopes, strict=True))
            return parts
        self._awake = False
        return None

    def _take_out(self, at_most: int) -> list[Envelope]:
        outbox, size = self._outbox, 0
        envelopes: list[Envelope] = []
        while outbox and size < FRAME_BYTES and len(envelopes) < at_most:
            envelope = outbox.popleft()
            if not envelope.charged:
                del self._newest[_key(envelope)]
            envelopes.append(envelope)
            size += envelope.size
        return envelopes

    def _put_back(self, envelopes: list[Envelope]) -> None:
        for envelope in reversed(envelopes):
            self._outbox.appendleft(envelope)
            if not envelope.charged:
                self._newest[_key(envelope)] = envelope

    def _return_to_sender(self, envelope: Envelope, error: WireError) -> None:
        reason = f"{type(envelope.message).__name__} can't cross to another process: {error}"
        envelope.reply_to.settle(envelope, Outcome.UNDELIVERED, reason)
        self._note_quiet()

    # Receiving.

    def envelopes_received(self, frame: memoryview) -> None:
        """Deliver the messages of a frame to the mailboxes. Raises WireError if the frame is invalid."""
        for run in self._unpacker.envelopes(self._link_schema.into, frame):
            self._deliver_run(run)

    def _deliver_run(self, run: EnvelopeRun) -> None:
        route = self._link_schema.into.routes[run.route]
        reply_buffer, source, charged = (
            self._reply_buffer,
            self._link_schema.source,
            not self._link_schema.into.latest[run.route],
        )
        sender, target, number = route.sender, route.target, run.route
        kind = Received if run.chains is None else ReceivedRequest
        each = zip(count(run.first), run.messages, run.sizes, run.chains or repeat(()))
        envelopes = [
            kind(message, size, sender, target, reply_buffer, chain, charged, at, source, number)
            for at, message, size, chain in each
        ]
        if run.whole:
            self._inbox.deliver_run(envelopes)
            return
        for envelope in envelopes:
            if isinstance(envelope.message, WireError):
                log.error("undecodable message from %s to %s: %s", sender, target, envelope.message)
                reply_buffer.settle(envelope, Outcome.UNDELIVERED, str(envelope.message))
            else:
                self._inbox.deliver(envelope)

    def answers_received(self, frame: memoryview) -> None:
        """Settle messages by the peer's answers. Raises WireError for an answer to something that was not
        sent.
        """
        answers = self._unpacker.answers(frame, self._replies_to)
        for first, number in zip(answers.handled[::2], answers.handled[1::2], strict=True):
            if number > len(self._unsettled):
                raise WireError(
                    f"{self.name} settles {number} messages; {len(self._unsettled)} are unsettled"
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
        """Settle messages that need no reply; consecutive ones of one sender together."""
        found = [(number, self._unsettled[number]) for number in numbers if number in self._unsettled]
        for number, envelope in found:
            if envelope.wants_reply and type(None) not in self._replies_to(number):
                raise WireError(f"{self.name} reports {number} as handled, without the reply")
        envelopes = [self._unsettled.pop(number) for number, _ in found]
        for reply_to, stretch in groupby(envelopes, attrgetter("reply_to")):
            reply_to.settle_handled(list(stretch))

    def _replies_to(self, number: int) -> tuple[Any, ...]:
        envelope = self._unsettled.get(number)
        if envelope is None or not envelope.wants_reply:
            raise WireError(f"{self.name} replies to {number}, which is no request")
        route_table = self._link_schema.out
        return route_table.replies[
            route_table.numbers[envelope.sender, envelope.target, type(envelope.message)]
        ]

    def _settle(self, number: int, outcome: Outcome, answer: Any) -> None:
        envelope = self._unsettled.pop(number, None)
        if envelope is not None:
            envelope.reply_to.settle(envelope, outcome, answer)

    def _follow(self, probe: Probe) -> None:
        routes = self._link_schema.into.routes
        if probe.route >= len(routes):
            raise WireError(f"{self.name} probes a wait on route {probe.route} of {len(routes)}")
        reply_buffer, route = self._reply_buffer, routes[probe.route]

        self._inbox.probe(route.target, route.message, probe.chain, partial(reply_buffer.found, probe.number))

    def let_go(self) -> None:
        """Borrowed arrays were released: report this to the peer."""
        self._answers.wake()

    def next_answers(self) -> Parts | None:
        """The parts of the next frame, with as many answers as fit."""
        if self._memory is not None:
            self._reply_buffer.ack_batch.freed += self._memory.take_let_go()
        if not self._reply_buffer.busy:
            self._reply_buffer.awake = False
            return None
        ack_batch = self._reply_buffer.take_batch()
        while True:
            try:
                return self._packer.answers(ack_batch)
            except WireError as error:
                if not ack_batch.replies:
                    raise
                if len(ack_batch.replies) > 1:
                    self._reply_buffer.put_back(ack_batch)
                else:
                    self._refuse_reply(ack_batch, error)

    def _refuse_reply(self, ack_batch: Answers[Any], error: WireError) -> None:
        reply = ack_batch.replies.pop()
        reason = f"the reply, {type(reply.payload).__name__}, can't cross to another process: {error}"
        log.error("%s: %s", self.name, reason)
        ack_batch.ended.append(EnvelopeEnded(reply.number, Outcome.REFUSED, sendable(reason)))

    # Failure of the peer.

    def peer_down(self, page: bytes | None, reason: str) -> None:
        """The peer has died. `page` is its delivery log; without one, every unsettled message may have been
        started.

        Asks fail. Messages that had certainly not started wait for the next incarnation.
        """
        self._envelopes, self._answers, self._memory = _Nowhere(), _Nowhere(), None
        self._awake = False
        self._packer, self._unpacker = Packer(), Unpacker()
        self._reply_buffer.close()
        self._reply_buffer = ReplyBuffer(self._link_schema.into, self._answers, self._max_frame_bytes)
        self._probes.clear()
        unsettled, self._unsettled = self._unsettled, {}
        again: list[Envelope] = []
        for number, envelope in unsettled.items():
            delivery_state = self._delivery_state(page, envelope, number)
            if delivery_state is DeliveryState.NOT_STARTED and not envelope.wants_reply:
                again.append(envelope)
            elif delivery_state is DeliveryState.NOT_STARTED:
                envelope.reply_to.settle(envelope, Outcome.UNDELIVERED, reason)
            elif delivery_state is DeliveryState.DONE and not envelope.wants_reply:
                envelope.reply_to.settle(envelope, Outcome.HANDLED)
            else:
                lost = (
                    f"{reason}, and the reply was lost with it"
                    if delivery_state is DeliveryState.DONE
                    else reason
                )
                envelope.reply_to.settle(envelope, Outcome.IN_DOUBT, lost)
        waiting = [*again, *self._outbox]
        self._outbox.clear()
        self._newest.clear()
        for envelope in waiting:
            if envelope.wants_reply:
                envelope.reply_to.settle(envelope, Outcome.UNDELIVERED, reason)
                continue
            if not envelope.charged:
                self._supersede(envelope)
            self._outbox.append(envelope)
        self._note_quiet()

    def _delivery_state(self, page: bytes | None, envelope: Envelope, number: int) -> DeliveryState:
        if page is None:
            return DeliveryState.STARTED
        link_schema = self._link_schema
        return link_schema.layout.delivery_state(
            page, link_schema.me, envelope.target, type(envelope.message), number
        )

    def retire(self, reason: str) -> None:
        """The peer won't be started again: all queued and future messages are returned as undelivered."""
        self._gone = reason
        while self._outbox:
            envelope = self._outbox.popleft()
            envelope.reply_to.settle(envelope, Outcome.UNDELIVERED, reason)
        self._note_quiet()


def _key(envelope: Envelope) -> tuple[str, str, type[Message]]:
    """Key of `latest` messages: among those with the same key, only the newest is sent."""
    return envelope.sender, envelope.target, type(envelope.message)


class _Nowhere:
    """Stream while the peer is down: messages wait in the outbox."""

    def flush(self) -> None:
        pass

    def wake(self) -> None:
        pass
