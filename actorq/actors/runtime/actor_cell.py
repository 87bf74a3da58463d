"""One actor's place in a node: its lanes and links, and what stays when one life is followed by another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from anyio.abc import TaskGroup

from actorq.actors.actor import Actor, State
from actorq.actors.message import Message, Request, reply_type
from actorq.actors.statistics import ActorStatistics, MailboxStatistics

from .deadlock import Handling, StartOrder, inspect
from .envelope import DeadLetter, Enquiry, Letter, Outcome
from .incarnation import OWN, Life, Notice, TakeState
from .mailbox import ConcurrentLane, Lane

if TYPE_CHECKING:
    from actorq.actors.spec import ActorSpec
    from actorq.actors.supervision.delivery_log import Ledger
    from actorq.actors.wire.transport import CircleFound

    from .channel import Link
    from .reports import Reports
    from .scheduler import Event, Scheduler

V = TypeVar("V")
Args = TypeVarTuple("Args")

log = logging.getLogger("actorq.actors")

HEALTHY_SECONDS = 0.5
"""Progress counts, for an actor's restarts, once its life has lasted so long."""


class Cell:
    """Made once for each actor; survives the actor's restarts."""

    def __init__(
        self,
        spec: ActorSpec,
        scheduler: Scheduler,
        reports: Reports,
        on_end: Callable[[Cell, Life], None],
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.clock = scheduler
        self.reports = reports
        self.on_end = on_end
        self.on_snapshot: Callable[[Cell], None] | None = None
        """Told of the snapshots that the actor takes by itself."""
        self.ports: dict[str, Any] = {}
        self.links: list[Link] = []
        self.life: Life | None = None
        self.snapshot: State | None = None
        self.restarts = 0
        self.crashes = 0
        self.progressed = False
        self.started = self.begun = False
        self.buried = ""
        self.ready = scheduler.event()
        """Set when the actor has started for the first time, or never will."""
        self._updates = 0
        self._handled = self._refused = 0
        self._drained: Event | None = None
        self.definition = spec.cls.definition.complete()
        self._make_lanes()

    def _make_lanes(self) -> None:
        self.serial: Lane = Lane(self.name, 1, self.clock)
        self.handling = Handling(self.serial)
        self.serial.handling = self.handling
        self.concurrent: list[ConcurrentLane] = []
        self._lanes: dict[type[Message], Lane] = {}
        self._acceptors: dict[type[Message], Callable[[Letter], None]] = {}
        for message, handler in self.definition.handlers.items():
            lane = self.serial
            if handler.concurrent:
                lane = ConcurrentLane(f"{self.name}.{message.__name__}", handler.concurrent, self.clock)
                self.concurrent.append(lane)
            self._lanes[message] = lane
            if message.delivery == "latest":
                self._acceptors[message] = lane.put_newest
            else:
                self._acceptors[message] = lane.put_request if issubclass(message, Request) else lane.put
        self.lanes: tuple[Lane, ...] = (self.serial, *self.concurrent)
        self.replies: dict[type[Message], Any] = {
            message: reply_type(message) for message in self._lanes if issubclass(message, Request)
        }

    # What arrives.

    def accept(self, letter: Letter) -> None:
        """Put a letter into its lane; a buried actor's letters go back at once."""
        if self.buried:
            letter.origin.settle(letter, Outcome.UNDELIVERED, self.buried)
        else:
            self._acceptors[type(letter.message)](letter)

    def accept_run(self, letters: Sequence[Letter]) -> None:
        """Several of one type."""
        lane = self._lanes[type(letters[0].message)]
        if self.buried or self._acceptors[type(letters[0].message)] != lane.put:
            for letter in letters:
                self.accept(letter)
        else:
            lane.put_all(letters)

    def probe(self, message: type[Message], chain: tuple[str, ...], found: CircleFound) -> None:
        inspect(self._lanes[message], chain, found)

    def settle(self, letter: Letter, outcome: Outcome, answer: Any) -> None:
        """A handler has returned, or refused."""
        if letter.origin is OWN:
            pass
        elif outcome is Outcome.HANDLED:
            self._handled += 1
        else:
            self._refused += 1
            if not letter.wants_reply:
                log.warning("%s refused %s: %s", self.name, type(letter.message).__name__, answer)
        letter.origin.settle(letter, outcome, answer)

    def put_own(self, message: Message) -> None:
        """Have the actor's life do something between two handlers."""
        self.serial.put(Letter(message, 0, self.name, self.name, OWN, ()))

    # Lives.

    async def start(self, nursery: TaskGroup, order: StartOrder) -> None:
        """Begin a life; return when the actor has started, or when that has failed."""
        self.started = True
        self.follow(order)
        order.starting = self.handling
        self.progressed = False
        self.life = life = Life(self)
        self.clock.spawn(nursery, self.name, life.lead)
        await life.up.wait()

    async def repeat(self, subscriber: str) -> None:
        """Send the newest of what the actor publishes to a subscriber that has started anew."""
        for port in self.definition.ports.values():
            if port.kind == "topic":
                await self.ports[port.name].repeat(subscriber)

    def keep_ledger(self, ledger: Ledger) -> None:
        """Note there what has come from other nodes and is begun."""
        self.serial.ledger = ledger.lane(self.name, None)
        for message, lane in self._lanes.items():
            if lane is not self.serial:
                lane.ledger = ledger.lane(self.name, message)

    def follow(self, order: StartOrder) -> None:
        """What is sent to this actor waits until its turn to start has come."""
        for lane in self.lanes:
            lane.start_order = order

    def life_began(self, life: Life) -> None:
        """The actor has started."""
        self.ready.set()
        for lane in self.lanes:
            lane.start_order = None
        if self.spec.snapshot_every_seconds is not None:
            life.start_soon(self._keep_snapshots, self.spec.snapshot_every_seconds)
        if self.begun:
            life.begin_run()

    def life_ended(self, life: Life) -> None:
        """All of the life's tasks are over."""
        reason = life.crash.describe() if life.crash is not None else "stopped while handling it"
        self.life = None
        self.handling.letter = None
        for lane in self.lanes:
            lane.drop_at_hand(reason)
        if self._drained is not None:
            self._drained.set()
        self.crashes += life.crash is not None
        self.on_end(self, life)

    def begin(self) -> None:
        """All actors have started: begin the actor's own loop."""
        self.begun = True
        if self.life is not None:
            self.life.begin_run()

    @property
    def actor(self) -> Actor | None:
        """The actor, if it has started and not ended."""
        return self.life.actor if self.life is not None else None

    @property
    def alive(self) -> bool:
        """A life is being led, from `__init__` to the end of `on_stop`."""
        return self.life is not None

    @property
    def doing(self) -> str:
        """Where in its life the actor is: "on_start", "on_stop", …"""
        return self.life.doing if self.life is not None else "nothing"

    async def in_thread(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V:
        assert self.life is not None
        return await self.life.in_thread(function, *args)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Start a task of the actor's; it takes turns, and ends with the present life."""
        if self.life is not None:
            self.life.start_soon(function, *args)

    # State.

    async def take_state(self, busy: bool = True) -> State | None:
        """What `state()` gives between two handlers; the last snapshot if the actor is down, ends or dies.

        Of an actor that is at a message, wait for its end if `busy`, or else take its last snapshot.
        """
        if self.life is not None and self.life.serving and (busy or self.idle):
            enquiry = Enquiry(TakeState(), 0, self.name, self.name, OWN, (), self.clock.event())
            self.serial.put_first(enquiry)
            await enquiry.event.wait()
        return self.snapshot

    def give_last_snapshot(self) -> None:
        """No more handlers in this life: whoever waits for its state between two of them waits in vain."""
        for letter in [letter for letter in self.serial.queue if isinstance(letter.message, TakeState)]:
            self.serial.queue.remove(letter)
            OWN.settle(letter, Outcome.UNDELIVERED)

    async def _keep_snapshots(self, seconds: float) -> None:
        while True:
            await self.clock.sleep(seconds)
            await self._keep_snapshot()

    async def _keep_snapshot(self) -> None:
        await self.take_state()
        if self.on_snapshot is not None:
            self.on_snapshot(self)

    def made_progress(self, name: str, amount: int) -> None:
        if self.life is not None and self.clock.now() - self.life.began >= HEALTHY_SECONDS:
            self.progressed = True
        self.reports.count(self.name, name, amount)
        every = self.spec.snapshot_every_updates
        if name == "updates" and every is not None:
            before, self._updates = self._updates, self._updates + amount
            if before // every != self._updates // every:
                self.keep_snapshot_soon()

    def keep_snapshot_soon(self) -> None:
        """Between two handlers."""
        self.start_soon(self._keep_snapshot)

    # Dead letters.

    def note_dead_letter(self, dead: DeadLetter) -> None:
        """Tell the actor, if it cares and lives."""
        if self.actor is not None and type(self.actor).on_undelivered is not Actor.on_undelivered:
            self.put_own(Notice(dead))

    # The end.

    def stop_run(self) -> None:
        """Cancel the actor's own loop; handlers go on, and those that wait are let go."""
        if self.life is not None:
            self.life.stop_run()

    async def drained(self) -> None:
        """Return when it is no longer busy."""
        while self.busy:
            self._drained = self.clock.event()
            await self._drained.wait()

    def note_idle(self) -> None:
        """Called whenever a lane may have run empty, and when a cancelled loop has ended."""
        if self._drained is not None and not self.busy:
            self._drained.set()

    @property
    def busy(self) -> bool:
        """Whether there is something unread or at hand, or a cancelled loop that may still send."""
        return self.alive and (not self.idle or (self.life is not None and self.life.leaving_loop))

    @property
    def handled(self) -> int:
        """Messages whose handlers have returned, or refused."""
        return self._handled + self._refused

    @property
    def idle(self) -> bool:
        return all(lane.idle for lane in self.lanes)

    async def halt(self) -> None:
        """End the life being led, if there is one, in order. Cancelled, it is ended without."""
        if self.life is not None:
            await self.life.halt()

    def kill(self) -> None:
        """End the life being led at once."""
        if self.life is not None:
            self.life.kill()

    async def ended(self) -> None:
        """Return when no life is led."""
        if self.life is not None:
            await self.life.down.wait()

    def bury(self, reason: str) -> None:
        """Nobody will take this place again: what waits, and what comes, goes back."""
        self.buried = reason
        self.ready.set()
        for lane in self.lanes:
            lane.drop_all(Outcome.UNDELIVERED, reason)

    def statistics(self) -> ActorStatistics:
        unread = [letter for lane in self.lanes for letter in lane.queue]
        return ActorStatistics(
            name=self.name,
            node=self.spec.node,
            alive=self.actor is not None,
            restarts=self.restarts,
            crashes=self.crashes,
            mailbox=MailboxStatistics(
                unread=len(unread),
                unread_bytes=sum(letter.size for letter in unread),
                at_hand=sum(len(lane.at_hand) for lane in self.lanes),
                handled=self._handled,
                refused=self._refused,
            ),
            links=tuple(link.statistics() for link in self.links),
        )
