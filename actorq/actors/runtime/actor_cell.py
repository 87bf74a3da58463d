"""Per-actor runtime record: mailbox queues, outgoing channels, and all state that survives a restart; and the
inbox of a node, which delivers to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from anyio.abc import TaskGroup

from actorq.actors.actor import Actor, State
from actorq.actors.message import Message, Request, reply_type
from actorq.actors.statistics import ActorStatistics, MailboxStatistics
from actorq.actors.supervision.watch import WatchNotice, watches

from .deadlock import HandlerContext, StartOrder, inspect
from .envelope import DeadLetter, Envelope, Outcome, RequestEnvelope
from .incarnation import SELF_REPLY, ActorIncarnation, DeadLetterNotice, SnapshotRequest
from .mailbox import ConcurrentQueue, MailboxQueue

if TYPE_CHECKING:
    from actorq.actors.runtime.inbox import CycleFound, Inbox
    from actorq.actors.spec import ActorSpec
    from actorq.actors.supervision.delivery_log import DeliveryLog

    from .channel import Channel
    from .reports import Reports
    from .scheduler import Event, Scheduler

V = TypeVar("V")
Args = TypeVarTuple("Args")

log = logging.getLogger("actorq.actors")

HEALTHY_SECONDS = 0.5
"""An actor's progress resets its restart count only after its incarnation has run for this long."""


class ActorCell:
    """The record of one actor on its node; made once and kept over the actor's restarts."""

    def __init__(
        self,
        spec: ActorSpec,
        scheduler: Scheduler,
        reports: Reports,
        on_end: Callable[[ActorCell, ActorIncarnation], None],
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.clock = scheduler
        self.reports = reports
        self.on_end = on_end
        self.on_snapshot: Callable[[ActorCell], None] | None = None
        """Called with this cell after each snapshot that the actor takes by itself."""
        self.ports: dict[str, Any] = {}
        self.channels: list[Channel] = []
        self.senders: dict[type[Message], tuple[str, ...]] = {}
        """The actors whose ports carry a message type to this one."""
        self.watchable: set[str] = set()
        """The actors that this one can watch."""
        self.watchers: dict[str, Inbox] = {}
        """The actors that may watch this one, and the routes to them."""
        self.last_ended: dict[str, int] = {}
        """The last incarnations of the actors that this one can watch and that are down."""
        self.incarnation: ActorIncarnation | None = None
        self.snapshot: State | None = None
        self.restarts = 0
        self.crashes = 0
        self.progressed = False
        self.started = self.begun = self.draining = False
        self.retired = ""
        self.ready = scheduler.event()
        """Set when the actor has started for the first time, or when it never will."""
        self._updates = 0
        self._handled = self._refused = 0
        self._drained: Event | None = None
        self.definition = spec.cls.definition.complete()
        self._make_mailboxes()

    def _make_mailboxes(self) -> None:
        self.serial: MailboxQueue = MailboxQueue(self.name, 1, self.clock)
        self.handling = HandlerContext(self.serial)
        self.serial.handling = self.handling
        self.concurrent: list[ConcurrentQueue] = []
        self._mailboxes: dict[type[Message], MailboxQueue] = {}
        self._acceptors: dict[type[Message], Callable[[Envelope], None]] = {}
        for message, handler in self.definition.handlers.items():
            mailbox = self.serial
            if handler.concurrent:
                mailbox = ConcurrentQueue(f"{self.name}.{message.__name__}", handler.concurrent, self.clock)
                self.concurrent.append(mailbox)
            self._mailboxes[message] = mailbox
            if message.delivery == "latest":
                self._acceptors[message] = mailbox.put_newest
            else:
                self._acceptors[message] = (
                    mailbox.put_request if issubclass(message, Request) else mailbox.put
                )
        if watches(self.spec.cls):
            self._mailboxes[WatchNotice], self._acceptors[WatchNotice] = self.serial, self.serial.put
        self.mailboxes: tuple[MailboxQueue, ...] = (self.serial, *self.concurrent)
        self.replies: dict[type[Message], Any] = {
            message: reply_type(message) for message in self._mailboxes if issubclass(message, Request)
        }

    # Incoming messages.

    def accept(self, envelope: Envelope) -> None:
        """Append a message to its mailbox queue; a retired actor's messages are returned as undelivered."""
        if self.retired:
            envelope.reply_to.settle(envelope, Outcome.UNDELIVERED, self.retired)
        else:
            self._acceptors[type(envelope.message)](envelope)

    def accept_run(self, envelopes: Sequence[Envelope]) -> None:
        """Append several messages of one type."""
        mailbox = self._mailboxes[type(envelopes[0].message)]
        if self.retired or self._acceptors[type(envelopes[0].message)] != mailbox.put:
            for envelope in envelopes:
                self.accept(envelope)
        else:
            mailbox.put_all(envelopes)

    def probe(self, message: type[Message], chain: tuple[str, ...], found: CycleFound) -> None:
        inspect(self._mailboxes[message], chain, found)

    def settle(self, envelope: Envelope, outcome: Outcome, answer: Any) -> None:
        """Report to the sender that a handler has returned or refused."""
        if envelope.reply_to is SELF_REPLY:
            pass
        elif outcome is Outcome.HANDLED:
            self._handled += 1
        else:
            self._refused += 1
            if not envelope.wants_reply:
                log.warning("%s refused %s: %s", self.name, type(envelope.message).__name__, answer)
        envelope.reply_to.settle(envelope, outcome, answer)

    def put_own(self, message: Message) -> None:
        """Append a message from the runtime to its own actor, handled between two other messages."""
        self.serial.put(self._own(message))

    def _own(self, message: Message) -> Envelope:
        return Envelope(message, 0, self.name, self.name, SELF_REPLY, ())

    # Death watch.

    def note_sender(self, sender: str, carries: Sequence[type[Message]]) -> None:
        """Record that another actor's port carries these message types to this one."""
        for message in carries:
            known = self.senders.get(message, ())
            self.senders[message] = known if sender in known else (*known, sender)

    def watch(self, name: str) -> None:
        """See Actor.watch."""
        if name not in self.watchable:
            lacks = "needs a port to or from it" if watches(self.spec.cls) else "overrides no on_down"
            raise ValueError(f"{self.name} can't watch {name}: it {lacks}")
        assert self.incarnation is not None
        if self.incarnation.watch(name) and name in self.last_ended:
            self.serial.put_first(self._own(WatchNotice(name, self.last_ended[name])))

    def actors_down(self, ended: Mapping[str, int]) -> None:
        """Notify the actor of the last incarnations of others, which can't do so themselves."""
        for name in self.watchable & ended.keys():
            self.put_own(WatchNotice(name, ended[name]))

    def _notify_watchers(self, *, up: bool) -> None:
        notice = WatchNotice(self.name, self.restarts, up)
        for watcher, inbox in self.watchers.items():
            inbox.deliver(Envelope(notice, 0, self.name, watcher, SELF_REPLY, ()))

    # Incarnations.

    async def start(self, task_group: TaskGroup, order: StartOrder) -> None:
        """Start an incarnation; return when the actor has started, or when starting has failed."""
        self.started = True
        self.follow(order)
        order.starting = self.handling
        self.progressed = False
        self.incarnation = incarnation = ActorIncarnation(self)
        self.clock.spawn(task_group, self.name, incarnation.lead)
        await incarnation.up.wait()

    async def repeat(self, subscriber: str) -> None:
        """Send the latest published messages again to a subscriber that has restarted."""
        for port in self.definition.ports.values():
            if port.kind == "topic":
                await self.ports[port.name].repeat(subscriber)

    def keep_delivery_log(self, delivery_log: DeliveryLog) -> None:
        """Record messages from other nodes in the delivery log when they are started and done."""
        self.serial.delivery_log = delivery_log.mailbox(self.name, None)
        for message, mailbox in self._mailboxes.items():
            if mailbox is not self.serial:
                mailbox.delivery_log = delivery_log.mailbox(self.name, message)

    def follow(self, order: StartOrder) -> None:
        """Hold messages to this actor until its start in this order is complete."""
        for mailbox in self.mailboxes:
            mailbox.start_order = order

    def incarnation_began(self, incarnation: ActorIncarnation) -> None:
        """Called when the actor has started."""
        self.ready.set()
        if self.restarts:
            self._notify_watchers(up=True)
        for mailbox in self.mailboxes:
            mailbox.start_order = None
        if self.spec.snapshot_every_seconds is not None:
            incarnation.start_soon(self._keep_snapshots, self.spec.snapshot_every_seconds)
        if self.begun:
            incarnation.begin_run()

    def incarnation_ended(self, incarnation: ActorIncarnation) -> None:
        """Called when all tasks of the incarnation have ended."""
        reason = (
            incarnation.crash.describe() if incarnation.crash is not None else "stopped while handling it"
        )
        self.incarnation = None
        self.handling.envelope = None
        for mailbox in self.mailboxes:
            mailbox.drop_in_progress(reason)
        if self._drained is not None:
            self._drained.set()
        self.crashes += incarnation.crash is not None
        if not self.draining:
            self._notify_watchers(up=False)
        self.on_end(self, incarnation)

    def begin(self) -> None:
        """All actors have started: start the actor's own loop."""
        self.begun = True
        if self.incarnation is not None:
            self.incarnation.begin_run()

    @property
    def actor(self) -> Actor | None:
        """The actor object, between its start and its end; otherwise None."""
        return self.incarnation.actor if self.incarnation is not None else None

    @property
    def alive(self) -> bool:
        """Whether an incarnation is running, from `__init__` to the end of `on_stop`."""
        return self.incarnation is not None

    @property
    def doing(self) -> str:
        """The method that the incarnation is in, such as "on_start" or "on_stop"."""
        return self.incarnation.doing if self.incarnation is not None else "nothing"

    async def in_thread(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V:
        assert self.incarnation is not None
        return await self.incarnation.in_thread(function, *args)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Start a task of the actor, scheduled like its handlers; it ends with the current incarnation."""
        if self.incarnation is not None:
            self.incarnation.start_soon(function, *args)

    # State.

    async def take_state(self, busy: bool = True) -> State | None:
        """The result of `state()` between two handlers; the last snapshot if the actor is down, ending or
        crashing.

        If a message is in progress, wait for its end if `busy`, otherwise return the last snapshot.
        """
        if self.incarnation is not None and self.incarnation.serving and (busy or self.idle):
            request_envelope = RequestEnvelope(
                SnapshotRequest(), 0, self.name, self.name, SELF_REPLY, (), self.clock.event()
            )
            self.serial.put_first(request_envelope)
            await request_envelope.event.wait()
        return self.snapshot

    def give_last_snapshot(self) -> None:
        """Cancel pending snapshot requests: this incarnation runs no more handlers."""
        for envelope in [
            envelope for envelope in self.serial.queue if isinstance(envelope.message, SnapshotRequest)
        ]:
            self.serial.queue.remove(envelope)
            SELF_REPLY.settle(envelope, Outcome.UNDELIVERED)

    async def _keep_snapshots(self, seconds: float) -> None:
        while True:
            await self.clock.sleep(seconds)
            await self._keep_snapshot()

    async def _keep_snapshot(self) -> None:
        await self.take_state()
        if self.on_snapshot is not None:
            self.on_snapshot(self)

    def made_progress(self, name: str, amount: int) -> None:
        if self.incarnation is not None and self.clock.now() - self.incarnation.began >= HEALTHY_SECONDS:
            self.progressed = True
        self.reports.count(self.name, name, amount)
        every = self.spec.snapshot_every_updates
        if name == "updates" and every is not None:
            before, self._updates = self._updates, self._updates + amount
            if before // every != self._updates // every:
                self.keep_snapshot_soon()

    def keep_snapshot_soon(self) -> None:
        """Take a snapshot between two handlers."""
        self.start_soon(self._keep_snapshot)

    # Dead letters.

    def note_dead_letter(self, dead: DeadLetter) -> None:
        """Pass a dead letter to the actor's `on_undelivered`, if it overrides that and is running."""
        if self.actor is not None and type(self.actor).on_undelivered is not Actor.on_undelivered:
            self.put_own(DeadLetterNotice(dead))

    # Stopping.

    def stop_run(self) -> None:
        """Cancel the actor's own loop and call `on_drain`; handlers continue."""
        self.draining = True
        if self.incarnation is not None:
            self.incarnation.stop_run()

    async def drained(self) -> None:
        """Return when the actor is no longer busy."""
        while self.busy:
            self._drained = self.clock.event()
            await self._drained.wait()

    def note_idle(self) -> None:
        """Called whenever a mailbox queue may be empty, and when a cancelled loop has ended."""
        if self._drained is not None and not self.busy:
            self._drained.set()

    @property
    def busy(self) -> bool:
        """Whether messages are unread or in progress, or a cancelled loop may still send."""
        return self.alive and (
            not self.idle or (self.incarnation is not None and self.incarnation.leaving_loop)
        )

    @property
    def handled(self) -> int:
        """Number of messages whose handlers have returned or refused."""
        return self._handled + self._refused

    @property
    def idle(self) -> bool:
        return all(mailbox.idle for mailbox in self.mailboxes)

    async def halt(self) -> None:
        """Stop the running incarnation, if any, in order. If cancelled, it is killed instead."""
        if self.incarnation is not None:
            await self.incarnation.halt()

    def kill(self) -> None:
        """End the running incarnation at once."""
        if self.incarnation is not None:
            self.incarnation.kill()

    async def ended(self) -> None:
        """Return when no incarnation is running."""
        if self.incarnation is not None:
            await self.incarnation.down.wait()

    def retire(self, reason: str) -> None:
        """Retire the actor for good: unread and future messages are returned as undelivered."""
        self.retired = reason
        self.ready.set()
        for mailbox in self.mailboxes:
            mailbox.drop_all(Outcome.UNDELIVERED, reason)

    def statistics(self) -> ActorStatistics:
        unread = [envelope for mailbox in self.mailboxes for envelope in mailbox.queue]
        return ActorStatistics(
            name=self.name,
            node=self.spec.node,
            alive=self.actor is not None,
            restarts=self.restarts,
            crashes=self.crashes,
            mailbox=MailboxStatistics(
                unread=len(unread),
                unread_bytes=sum(envelope.size for envelope in unread),
                in_progress=sum(len(mailbox.in_progress) for mailbox in self.mailboxes),
                handled=self._handled,
                refused=self._refused,
            ),
            channels=tuple(channel.statistics() for channel in self.channels),
        )


class LocalNode:
    """One node of this process: delivers messages to the cells of its actors."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cells: dict[str, ActorCell] = {}

    def deliver(self, envelope: Envelope) -> None:
        self.cells[envelope.target].accept(envelope)

    def deliver_run(self, envelopes: Sequence[Envelope]) -> None:
        self.cells[envelopes[0].target].accept_run(envelopes)

    def probe(self, target: str, message: type[Message], chain: tuple[str, ...], found: CycleFound) -> None:
        self.cells[target].probe(message, chain, found)
