"""One actor's place in a node: its lanes and links, and the lives that are led there one after the other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from .actor import Actor, State
from .circles import Handling, current_handling, inspect
from .errors import Refused
from .lane import ConcurrentLane, Lane
from .letter import DeadLetter, Enquiry, Letter, Outcome
from .message import Message, Request, reply_type, seal
from .statistics import ActorStatistics, MailboxStatistics

if TYPE_CHECKING:
    from .link import Link
    from .reports import Reports
    from .scheduling import Scheduler
    from .spec import ActorSpec
    from .transport import CircleFound

log = logging.getLogger("actorq.actors")

LETTERS_IN_A_ROW = 64
"""How many letters a handler that never waits may take before the loop's other tasks get a turn."""


class TakeState(Request[None]):
    """From the cell to itself: call `state()` between two handlers."""


class Notice(Message):
    """From the cell to itself: one of the actor's own messages is a dead letter."""

    dead: Any


@dataclass(frozen=True, slots=True)
class Crash:
    """What ended a life."""

    error: Exception
    doing: str
    """Where it happened: "__init__", "on_start", a handler's name, …"""
    message: Message | None

    def describe(self) -> str:
        at_hand = f" over {type(self.message).__name__}" if self.message is not None else ""
        return f"crashed in {self.doing}{at_hand}: {type(self.error).__name__}: {self.error}"


class Cell:
    """Made once for each actor; survives the actor's restarts."""

    def __init__(
        self,
        spec: ActorSpec,
        scheduler: Scheduler,
        reports: Reports,
        on_end: Callable[[Cell, Crash | None], None],
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.clock = scheduler
        self.reports = reports
        self.on_end = on_end
        self.ports: dict[str, Any] = {}
        self.links: list[Link] = []
        self.snapshot: State | None = None
        self.restarts = 0
        self.crashes = 0
        self.progressed = False
        self.actor: Actor | None = None
        self.begun = False
        self.buried = ""
        self._updates = 0
        self._handled = self._refused = 0
        self._tasks: TaskGroup | None = None
        self._crash: Crash | None = None
        self._doing = ""
        self._serving, self._looping = anyio.CancelScope(), anyio.CancelScope()
        self._up, self._down = anyio.Event(), anyio.Event()
        self._drained: anyio.Event | None = None
        self.ready = anyio.Event()
        """Set when the actor has started for the first time, or never will."""
        self.definition = spec.cls.definition.complete()
        self._make_lanes()

    def _make_lanes(self) -> None:
        self.serial: Lane = Lane(self.name, 1, self.clock)
        self._concurrent: dict[type[Message], ConcurrentLane] = {}
        self._acceptors: dict[type[Message], Callable[[Letter], None]] = {}
        for message, handler in self.definition.handlers.items():
            lane = self.serial
            if handler.concurrent:
                key = f"{self.name}.{message.__name__}"
                lane = ConcurrentLane(key, handler.concurrent, self.clock)
                self._concurrent[message] = lane
            if message.delivery == "latest":
                self._acceptors[message] = lane.put_newest
            else:
                self._acceptors[message] = lane.put_request if issubclass(message, Request) else lane.put

    @property
    def lanes(self) -> tuple[Lane, ...]:
        return (self.serial, *self._concurrent.values())

    # What arrives.

    def accept(self, letter: Letter) -> None:
        """Put a letter into its lane; a buried actor's letters go back at once."""
        if self.buried:
            letter.origin.settle(letter, Outcome.UNDELIVERED, self.buried)
        else:
            self._acceptors[type(letter.message)](letter)

    def probe(self, message: type[Message], chain: tuple[str, ...], found: CircleFound) -> None:
        inspect(self._concurrent.get(message, self.serial), chain, found)

    # A life.

    async def start(self, nursery: TaskGroup) -> None:
        """Make a fresh actor; return when it has started, or when that has failed."""
        self._up, self._down = anyio.Event(), anyio.Event()
        self._serving, self._looping = anyio.CancelScope(), anyio.CancelScope()
        self._crash = None
        self.progressed = False
        nursery.start_soon(self._live, name=self.name)
        await self._up.wait()

    async def _live(self) -> None:
        try:
            async with anyio.create_task_group() as self._tasks:
                self.clock.spawn(self._tasks, self.name, self._main)
        finally:
            for lane in self._concurrent.values():
                lane.close()
            reason = self._crash.describe() if self._crash else "stopped while handling it"
            for lane in self.lanes:
                lane.drop_at_hand(reason)
            if self.serial.handling is not None:
                self.serial.handling.letter = None
            self.actor = self._tasks = None
            self._up.set()
            self._down.set()
            if self._drained is not None:
                self._drained.set()
        self.crashes += self._crash is not None
        self.on_end(self, self._crash)

    async def _main(self) -> None:
        try:
            self._doing = "__init__"
            actor = self._make_actor()
            await self._start_actor(actor)
            self._up.set()
            with self._serving:
                await self._serve(actor)
            self._doing = "on_stop"
            await actor.on_stop()
        except Exception as error:
            self._note_crash(error, self._doing, self._at_hand())
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _make_actor(self) -> Actor:
        actor = self.spec.cls.__new__(self.spec.cls)
        actor._cell = self
        for name, value in (*self.ports.items(), *self.spec.tables.items()):
            setattr(actor, name, value)
        actor.__init__()  # type: ignore[misc]
        return actor

    async def _start_actor(self, actor: Actor) -> None:
        handling = self.serial.handling
        assert handling is not None
        self._doing = "on_start"
        current_handling.set(handling)
        handling.starting = True
        try:
            await actor.on_start()
        finally:
            handling.starting = False
        if self.snapshot is not None:
            self._doing = "load_state"
            actor.load_state(self.snapshot)
        self.actor = actor
        self.ready.set()
        for lane in self.lanes:
            lane.has_started = True
        for concurrent in self._concurrent.values():
            concurrent.open(self._begin_concurrent)
        if self.spec.snapshot_every_seconds is not None:
            self.start_soon(self._keep_snapshots, self.spec.snapshot_every_seconds)
        if self.begun:
            self._begin_run()

    def begin(self) -> None:
        """All actors have started: begin the actor's own loop."""
        self.begun = True
        if self.actor is not None:
            self._begin_run()

    def _begin_run(self) -> None:
        if self.spec.cls.run is not Actor.run and self.actor is not None:
            self.start_soon(self._run, self.actor)

    async def _run(self, actor: Actor) -> None:
        try:
            with self._looping:
                await actor.run()
                if self.spec.restart == "always" and self._tasks is not None:
                    self._tasks.cancel_scope.cancel()
        except Exception as error:
            self._note_crash(error, "run", None)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Start a task of the actor's; it takes turns, and ends with this life."""
        if self._tasks is not None:
            self.clock.spawn(self._tasks, self.name, self._guarded, function, args)

    async def _guarded(
        self, function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]
    ) -> None:
        try:
            await function(*args)
        except Exception as error:
            self._note_crash(error, getattr(function, "__name__", "a task"), None)

    def _note_crash(self, error: Exception, doing: str, message: Message | None) -> None:
        if self._crash is None:
            self._crash = Crash(error, doing, message)
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _at_hand(self) -> Message | None:
        return self.serial.at_hand[0].message if self.serial.at_hand else None

    # Handling.

    def _methods(self, actor: Actor) -> dict[type[Message], Callable[[Any], Awaitable[Any]]]:
        methods: dict[type[Message], Callable[[Any], Awaitable[Any]]] = {
            TakeState: self._take_state,
            Notice: self._notice,
        }
        for message, handler in self.definition.handlers.items():
            method = getattr(actor, handler.method)
            methods[message] = partial(self.clock.in_thread, method) if handler.thread else method
        return methods

    async def _serve(self, actor: Actor) -> None:
        """Handle the serial lane's letters one at a time, for ever."""
        lane, methods = self.serial, self._methods(actor)
        queue, at_hand, handling = lane.queue, lane.at_hand, lane.handling
        assert handling is not None
        patience = 1 if self.clock.deterministic else LETTERS_IN_A_ROW
        in_a_row = 0
        while True:
            if not queue:
                self._note_idle()
                await lane.wait()
                in_a_row = 0
            letter = lane.take()
            message = letter.message
            at_hand.append(letter)
            handling.letter = letter
            outcome = Outcome.HANDLED
            try:
                answer = await methods[type(message)](message)
            except Refused as refusal:
                outcome, answer = Outcome.REFUSED, refusal.reason
            except Exception:
                self._doing = self._handler_name(message)
                raise
            if letter.wants_reply and answer is not None:
                self._check_answer(letter, outcome, answer)
            at_hand.clear()
            handling.letter = None
            self._settle(letter, outcome, answer)
            in_a_row += 1
            if in_a_row >= patience:
                in_a_row = 0
                await self.clock.pass_turn()

    def _begin_concurrent(self, lane: ConcurrentLane, letter: Letter) -> None:
        assert self._tasks is not None
        self.clock.spawn(self._tasks, lane.key, self._handle_beside, lane, letter)

    async def _handle_beside(self, lane: ConcurrentLane, letter: Letter) -> None:
        handling = Handling(lane)
        handling.letter = letter
        current_handling.set(handling)
        name = self._handler_name(letter.message)
        outcome = Outcome.HANDLED
        try:
            try:
                answer = await getattr(self.actor, name)(letter.message)
            except Refused as refusal:
                outcome, answer = Outcome.REFUSED, refusal.reason
            if letter.wants_reply and answer is not None:
                self._check_answer(letter, outcome, answer)
        except Exception as error:
            self._note_crash(error, name, letter.message)
            return
        lane.at_hand.remove(letter)
        self._settle(letter, outcome, answer)
        lane.hand_out()
        self._note_idle()

    def _settle(self, letter: Letter, outcome: Outcome, answer: Any) -> None:
        if outcome is Outcome.HANDLED:
            self._handled += 1
        else:
            self._refused += 1
            if not letter.wants_reply:
                log.warning("%s refused %s: %s", self.name, type(letter.message).__name__, answer)
        letter.origin.settle(letter, outcome, answer)

    def _check_answer(self, letter: Letter, outcome: Outcome, answer: Any) -> None:
        if outcome is not Outcome.HANDLED:
            return
        expected = reply_type(type(letter.message))  # type: ignore[arg-type]
        if isinstance(answer, Message) and (not isinstance(expected, type) or isinstance(answer, expected)):
            seal(answer)
            return
        raise TypeError(
            f"{self._handler_name(letter.message)} answered {answer!r}; "
            f"{type(letter.message).__name__} asks for {getattr(expected, '__name__', expected)}"
        )

    def _handler_name(self, message: Message) -> str:
        handler = self.definition.handlers.get(type(message))
        return (
            handler.method
            if handler is not None
            else "state"
            if type(message) is TakeState
            else "on_undelivered"
        )

    # State.

    async def take_state(self) -> State | None:
        """What `state()` gives between two handlers; the last snapshot if the actor is down or dies."""
        if self.actor is not None:
            enquiry = Enquiry(TakeState(), 0, self.name, self.name, _HERE, (), self.clock.event())
            enquiry.charged = True
            self.serial.put_first(enquiry)
            await enquiry.event.wait()
        return self.snapshot

    async def _take_state(self, _: TakeState) -> None:
        assert self.actor is not None
        self.snapshot = self.actor.state()

    async def _keep_snapshots(self, seconds: float) -> None:
        while True:
            await self.clock.sleep(seconds)
            await self.take_state()

    def made_progress(self, name: str, amount: int) -> None:
        self.progressed = True
        self.reports.count(self.name, name, amount)
        every = self.spec.snapshot_every_updates
        if name == "updates" and every is not None:
            before, self._updates = self._updates, self._updates + amount
            if before // every != self._updates // every:
                self.start_soon(self.take_state)

    # Dead letters.

    def note_dead_letter(self, dead: DeadLetter) -> None:
        """Tell the actor, if it cares and lives."""
        if self.actor is not None and type(self.actor).on_undelivered is not Actor.on_undelivered:
            self.serial.put(Letter(Notice(dead), 0, self.name, self.name, _HERE, ()))

    async def _notice(self, notice: Notice) -> None:
        assert self.actor is not None
        await self.actor.on_undelivered(notice.dead)

    # The end.

    @property
    def alive(self) -> bool:
        """A life is being led, from `__init__` to the end of `on_stop`."""
        return self._tasks is not None

    async def down(self) -> None:
        """Return when the life being led is over."""
        if self.alive:
            await self._down.wait()

    def stop_run(self) -> None:
        """Cancel the actor's own loop; handlers go on, and those that wait are let go."""
        self._looping.cancel()
        if self.actor is not None:
            self.actor.on_drain()

    async def drained(self) -> None:
        """Return when nothing is unread or at hand."""
        while not self.idle and self.actor is not None:
            self._drained = anyio.Event()
            await self._drained.wait()

    def _note_idle(self) -> None:
        if self._drained is not None and self.idle:
            self._drained.set()

    @property
    def idle(self) -> bool:
        return all(lane.idle for lane in self.lanes)

    async def halt(self) -> None:
        """End this life in order: the loop, the handler at hand, `on_stop`. Cancelled, it ends without."""
        try:
            self._looping.cancel()
            self._serving.cancel()
            await self._down.wait()
        finally:
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()

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


class _Here:
    """The way back of a letter that a cell sends itself."""

    def settle(self, letter: Letter, outcome: Outcome, answer: Any = None) -> None:
        if isinstance(letter, Enquiry):
            letter.outcome = outcome
            letter.event.set()


_HERE = _Here()
