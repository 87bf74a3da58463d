"""Mailbox queues of one actor: one for the serial handlers, and one for each concurrent handler."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from actorq.actors.message import Message
from actorq.actors.supervision.delivery_log import QueueLog

from .deadlock import HandlerContext, StartOrder, inspect
from .envelope import Envelope, Outcome
from .scheduler import Event, Scheduler


class MailboxQueue:
    """Queue of unread messages and the messages in progress; kept over the actor's restarts."""

    def __init__(self, key: str, capacity: int, scheduler: Scheduler) -> None:
        self.key = key
        """The actor's name; for a concurrent queue followed by the message type."""
        self.capacity = capacity
        self.start_order: StartOrder | None = None
        """Set until the actor has started: its place in the order of starts."""
        self.queue: deque[Envelope] = deque()
        self.in_progress: list[Envelope] = []
        self.handling: HandlerContext | None = HandlerContext(self) if capacity == 1 else None
        self._scheduler = scheduler
        self.delivery_log: QueueLog | None = None
        """Log of messages from other nodes that were started and done; None if no other process reads it."""
        self._newest: dict[tuple[str, type[Message]], Envelope] = {}
        self._sleeper: Event | None = None

    def put(self, envelope: Envelope) -> None:
        self.queue.append(envelope)
        if self._sleeper is not None:
            self._sleeper.set()
            self._sleeper = None

    def put_all(self, envelopes: Sequence[Envelope]) -> None:
        """Append several messages, in order."""
        self.queue.extend(envelopes)
        if self._sleeper is not None:
            self._sleeper.set()
            self._sleeper = None

    def put_first(self, envelope: Envelope) -> None:
        """Insert a message before all unread ones."""
        self.queue.appendleft(envelope)
        if self._sleeper is not None:
            self._sleeper.set()
            self._sleeper = None

    def put_request(self, envelope: Envelope) -> None:
        """Append a request, which may close a circular wait."""
        self.put(envelope)
        if envelope.asked_by:
            inspect(self, envelope.chain, partial(self._turn_back, envelope))

    def _turn_back(self, envelope: Envelope, chain: tuple[str, ...]) -> None:
        if envelope in self.queue:
            self.queue.remove(envelope)
            envelope.reply_to.settle(envelope, Outcome.CIRCULAR, chain)

    def put_newest(self, envelope: Envelope) -> None:
        """Replace the sender's unread message of the same type by a newer one."""
        key = (envelope.sender, type(envelope.message))
        older = self._newest.get(key)
        if older is not None:
            self.queue.remove(older)
            older.reply_to.settle(older, Outcome.SUPERSEDED)
        self._newest[key] = envelope
        self.put(envelope)

    def take(self) -> Envelope:
        envelope = self.queue.popleft()
        if not envelope.charged:
            self._newest.pop((envelope.sender, type(envelope.message)), None)
        return envelope

    async def wait(self) -> None:
        """Return when there is an unread message."""
        while not self.queue:
            self._sleeper = self._scheduler.event()
            await self._sleeper.wait()

    def begin(self, envelope: Envelope) -> None:
        """Record that the message's handler is about to be called."""
        self.in_progress.append(envelope)
        if self.delivery_log is not None and envelope.number:
            self.delivery_log.begin(envelope)

    def note_ended(self, envelope: Envelope) -> None:
        """Record that the message's handler has ended."""
        if self.delivery_log is not None and envelope.number:
            self.delivery_log.end(envelope)

    def drop_all(self, outcome: Outcome, reason: str) -> None:
        """Settle all unread messages with this outcome."""
        while self.queue:
            envelope = self.take()
            envelope.reply_to.settle(envelope, outcome, reason)

    def drop_in_progress(self, reason: str) -> None:
        """Settle, as in doubt, the messages whose handlers ended with the incarnation."""
        for envelope in self.in_progress:
            envelope.reply_to.settle(envelope, Outcome.IN_DOUBT, reason)
            if self.delivery_log is not None and envelope.number:
                self.delivery_log.crashed(envelope)
        self.in_progress.clear()

    @property
    def idle(self) -> bool:
        return not self.queue and not self.in_progress


class ConcurrentQueue(MailboxQueue):
    """Queue of a concurrent handler: starts up to `capacity` handlers at once."""

    def __init__(self, key: str, capacity: int, scheduler: Scheduler) -> None:
        super().__init__(key, capacity, scheduler)
        self.handling = None
        self._begin: Callable[[ConcurrentQueue, Envelope], None] | None = None

    def put(self, envelope: Envelope) -> None:
        self.queue.append(envelope)
        self.hand_out()

    def put_all(self, envelopes: Sequence[Envelope]) -> None:
        self.queue.extend(envelopes)
        self.hand_out()

    def open(self, begin: Callable[[ConcurrentQueue, Envelope], None]) -> None:
        """Start delivering messages: `begin` starts a handler for one message."""
        self._begin = begin
        self.hand_out()

    def close(self) -> None:
        self._begin = None

    def hand_out(self) -> None:
        while self._begin is not None and self.queue and len(self.in_progress) < self.capacity:
            envelope = self.take()
            self.begin(envelope)
            self._begin(self, envelope)
