"""One incarnation of an actor: from `__init__` to the end of `on_stop`, or to a crash."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple, Unpack

import anyio
from anyio.abc import TaskGroup

from actorq.actors.actor import Actor, ActorRuntime, State
from actorq.actors.errors import Fatal, Refused, Stopping
from actorq.actors.message import Message, Request, seal
from actorq.actors.supervision.watch import WatchNotice

from .deadlock import HandlerContext, current_handling
from .envelope import DeadLetter, Envelope, Outcome, RequestEnvelope
from .mailbox import ConcurrentQueue
from .scheduler import current_actor

if TYPE_CHECKING:
    from actorq.actors.definition import Definition

    from .mailbox import MailboxQueue

V = TypeVar("V")
Args = TypeVarTuple("Args")

log = logging.getLogger("actorq.actors")

ENVELOPES_IN_A_ROW = 64
"""After this many messages, a loop of handlers that never wait checks the clock."""

SECONDS_IN_A_ROW = 0.0005
"""After this long without waiting, the handler loop yields to the event loop's other tasks."""


class SnapshotRequest(Request[None]):
    """Message from the cell to itself: call `state()` between two handlers."""


class DeadLetterNotice(Message):
    """Message from the cell to itself: one of the actor's own messages became a dead letter."""

    dead: Any


class EndIncarnation(Message):
    """Message from the cell to itself: end this incarnation in order, between two handlers."""

    incarnation: Any


_METHODS = {
    SnapshotRequest: "state",
    DeadLetterNotice: "on_undelivered",
    EndIncarnation: "run",
    WatchNotice: "on_down",
}
"""Methods that the runtime's own messages call, for crash reports."""


@dataclass(frozen=True, slots=True)
class Crash:
    """The error that ended an incarnation."""

    error: BaseException
    doing: str
    """The method in which it was raised: "__init__", "on_start", a handler's name, …"""
    message: Message | None

    @property
    def fatal(self) -> bool:
        return isinstance(self.error, Fatal)

    def describe(self) -> str:
        in_progress = f" over {type(self.message).__name__}" if self.message is not None else ""
        return f"crashed in {self.doing}{in_progress}: {type(self.error).__name__}: {self.error}"


class SelfReply:
    """Reply path of messages that a cell sends to itself."""

    def settle(self, envelope: Envelope, outcome: Outcome, answer: Any = None) -> None:
        if isinstance(envelope, RequestEnvelope):
            envelope.outcome = outcome
            envelope.event.set()

    def settle_handled(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self.settle(envelope, Outcome.HANDLED)


SELF_REPLY = SelfReply()


class IncarnationOwner(ActorRuntime, Protocol):
    """What an incarnation needs of its actor's runtime record; see actor_cell.py."""

    name: str
    definition: Definition
    ports: dict[str, Any]
    serial: MailboxQueue
    concurrent: list[ConcurrentQueue]
    handling: HandlerContext
    replies: dict[type[Message], Any]
    snapshot: State | None
    last_ended: dict[str, int]
    draining: bool

    def put_own(self, message: Message) -> None: ...
    def settle(self, envelope: Envelope, outcome: Outcome, answer: Any) -> None: ...
    def note_idle(self) -> None: ...
    def give_last_snapshot(self) -> None: ...
    def incarnation_began(self, incarnation: ActorIncarnation) -> None: ...
    def incarnation_ended(self, incarnation: ActorIncarnation) -> None: ...


class ActorIncarnation:
    """A running actor object and its tasks, which all end together: in order by `halt`, at once by `kill`."""

    def __init__(self, cell: IncarnationOwner) -> None:
        self.cell = cell
        self.clock = cell.clock
        self.actor: Actor | None = None
        """Set when `on_start` and `load_state` have returned."""
        self.crash: Crash | None = None
        self.told_to_end = False
        self.serving = False
        """True while messages are handled one after the other, from the start to `on_stop`."""
        self.doing = "__init__"
        self.up, self.down = self.clock.event(), self.clock.event()
        self._handling = cell.handling
        # Shielded: an orderly end also when the embedding application's scope is cancelled.
        self._scope = anyio.CancelScope(shield=True)
        self._serving, self._looping = anyio.CancelScope(), anyio.CancelScope()
        self._tasks: TaskGroup | None = None
        self.began = self.clock.now()
        self._watched: dict[str, int] = {}
        """The watched actors, and the last of their incarnations that `on_down` was called for; -1: none."""
        self._in_loop = False
        self.leaving_loop = False
        """Whether the actor's own loop is cancelled but has not ended yet: it may still send."""

    async def lead(self) -> None:
        """Run the incarnation from start to end; a crash is recorded and reported to the cell."""
        current_actor.set(self.cell.name)
        try:
            with self._scope:
                async with anyio.create_task_group() as self._tasks:
                    try:
                        await self._main()
                    finally:
                        self.kill()
                        with anyio.CancelScope(shield=True):
                            await self.clock.join(self.cell.name)
        finally:
            self.actor = None
            self.up.set()
            self.down.set()
            self.cell.incarnation_ended(self)

    async def _main(self) -> None:
        try:
            actor = self._make_actor()
            await self._start(actor)
            self.up.set()
            try:
                with self._serving:
                    await self._serve(actor)
            finally:
                self.serving = False
                self.cell.give_last_snapshot()
            self.doing = "on_stop"
            self._handling.envelope = None
            self.cell.serial.drop_in_progress("stopped while handling it")
            await actor.on_stop()
        except BaseException as error:
            if not self._is_crash(error):
                raise
            in_progress = self.cell.serial.in_progress
            self._note_crash(error, self.doing, in_progress[0].message if in_progress else None)

    def _make_actor(self) -> Actor:
        spec = self.cell.spec
        actor = spec.cls.__new__(spec.cls)
        actor._cell = self.cell
        for name, value in (*self.cell.ports.items(), *spec.tables.items()):
            setattr(actor, name, value)
        actor.__init__()  # type: ignore[misc]
        return actor

    async def _start(self, actor: Actor) -> None:
        self.doing = "on_start"
        current_handling.set(self._handling)
        self._handling.starting = True
        try:
            await actor.on_start()
        finally:
            self._handling.starting = False
        if self.cell.snapshot is not None:
            self.doing = "load_state"
            actor.load_state(self.cell.snapshot)
        self.actor, self.serving = actor, True
        for mailbox in self.cell.concurrent:
            mailbox.open(self._begin_concurrent)
        self.cell.incarnation_began(self)

    # Tasks of the actor.

    def begin_run(self) -> None:
        """Start the actor's own loop, if it has one."""
        if self.actor is not None and type(self.actor).run is not Actor.run:
            self._in_loop = True
            self.start_soon(self._run, self.actor)

    async def _run(self, actor: Actor) -> None:
        try:
            with self._looping:
                await actor.run()
                if self.cell.spec.restart == "always":
                    self.cell.put_own(EndIncarnation(self))
        finally:
            self._in_loop = self.leaving_loop = False
            self.cell.note_idle()

    def stop_run(self) -> None:
        """Cancel the actor's own loop and call `on_drain`; handlers continue."""
        self.leaving_loop = self._in_loop
        self.clock.cancel(self._looping, self.cell.name)
        if self.actor is not None:
            try:
                self.actor.on_drain()
            except Exception as error:
                self._note_crash(error, "on_drain", None)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Start a task of the actor, scheduled like its handlers; it ends with this incarnation."""
        if self._tasks is not None:
            self.clock.spawn(self._tasks, self.cell.name, self._guarded, function, args)

    async def _guarded(
        self, function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]
    ) -> None:
        current_actor.set(self.cell.name)
        current_handling.set(None)  # no message waits for this task, whichever handler started it
        try:
            await function(*args)
        except BaseException as error:
            if not self._is_crash(error):
                raise
            doing = "run" if function == self._run else getattr(function, "__name__", "a task")
            self._note_crash(error, doing, None)

    async def in_thread(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V:
        """Run `function` in a thread. Cancelled, the thread is abandoned and named in the log."""
        begun = False

        def call() -> V:
            nonlocal begun
            begun = True
            return function(*args)

        try:
            return await self.clock.in_thread(call)
        except anyio.get_cancelled_exc_class():
            if begun:
                within = function.func if isinstance(function, partial) else function
                name = getattr(within, "__qualname__", repr(within))
                log.warning("%s abandoned a thread in %s", self.cell.name, name)
            raise

    # Handlers.

    def _methods(self, actor: Actor) -> dict[type[Message], Callable[[Any], Awaitable[Any]]]:
        methods: dict[type[Message], Callable[[Any], Awaitable[Any]]] = {
            SnapshotRequest: self._take_state,
            DeadLetterNotice: self._notice,
            EndIncarnation: self._leave,
            WatchNotice: self._note_watched,
        }
        for message, handler in self.cell.definition.handlers.items():
            method = getattr(actor, handler.method)
            methods[message] = partial(self.in_thread, method) if handler.thread else method
        return methods

    async def _serve(self, actor: Actor) -> None:
        """Handle the messages of the serial mailbox queue one at a time, until cancelled."""
        mailbox, methods = self.cell.serial, self._methods(actor)
        queue, in_progress, handling, delivery_log = (
            mailbox.queue,
            mailbox.in_progress,
            self._handling,
            mailbox.delivery_log,
        )
        deterministic = self.clock.deterministic
        most_in_a_row = 1 if deterministic else ENVELOPES_IN_A_ROW
        in_a_row, began = 0, perf_counter()
        while True:
            if not queue:
                self.cell.note_idle()
                await mailbox.wait()
                in_a_row = 0
                began = perf_counter()
            envelope = mailbox.take()
            message = envelope.message
            in_progress.append(envelope)
            if delivery_log is not None and envelope.number:
                delivery_log.begin(envelope)
            handling.envelope = envelope
            outcome = Outcome.HANDLED
            try:
                answer = await methods[type(message)](message)
            except Refused as refusal:
                outcome, answer = _refusal(refusal), refusal.reason
            except BaseException:
                self.doing = self._handler_name(message)
                raise
            if envelope.wants_reply and outcome is Outcome.HANDLED and envelope.reply_to is not SELF_REPLY:
                self._check_answer(envelope, answer)
            in_progress.clear()
            if delivery_log is not None and envelope.number:
                delivery_log.end(envelope)
            handling.envelope = None
            self.cell.settle(envelope, outcome, answer)
            in_a_row += 1
            if in_a_row >= most_in_a_row:
                in_a_row = 0
                if deterministic or perf_counter() - began > SECONDS_IN_A_ROW:
                    await self.clock.pass_turn()
                    began = perf_counter()

    def _begin_concurrent(self, mailbox: ConcurrentQueue, envelope: Envelope) -> None:
        assert self._tasks is not None
        self.clock.spawn(self._tasks, self.cell.name, self._handle_beside, mailbox, envelope)

    async def _handle_beside(self, mailbox: ConcurrentQueue, envelope: Envelope) -> None:
        handling = HandlerContext(mailbox)
        handling.envelope = envelope
        current_handling.set(handling)
        current_actor.set(self.cell.name)
        if mailbox.capacity == 1:
            mailbox.handling = handling
        name = self._handler_name(envelope.message)
        outcome = Outcome.HANDLED
        try:
            try:
                answer = await getattr(self.actor, name)(envelope.message)
            except Refused as refusal:
                outcome, answer = _refusal(refusal), refusal.reason
            if envelope.wants_reply and outcome is Outcome.HANDLED:
                self._check_answer(envelope, answer)
        except BaseException as error:
            if not self._is_crash(error):
                raise
            self._note_crash(error, name, envelope.message)
            return
        mailbox.in_progress.remove(envelope)
        mailbox.note_ended(envelope)
        self.cell.settle(envelope, outcome, answer)
        mailbox.hand_out()
        self.cell.note_idle()

    def _check_answer(self, envelope: Envelope, answer: Any) -> None:
        expected = self.cell.replies[type(envelope.message)]
        if isinstance(answer, Message) and (not isinstance(expected, type) or isinstance(answer, expected)):
            seal(answer)
        elif answer is not None or expected is not type(None):
            raise TypeError(
                f"{self._handler_name(envelope.message)} answered {answer!r}; "
                f"{type(envelope.message).__name__} asks for {getattr(expected, '__name__', expected)}"
            )

    def _handler_name(self, message: Message) -> str:
        handler = self.cell.definition.handlers.get(type(message))
        if handler is not None:
            return handler.method
        return _METHODS[type(message)]

    async def _take_state(self, _: SnapshotRequest) -> None:
        assert self.actor is not None
        self.cell.snapshot = self.actor.state()

    async def _notice(self, notice: DeadLetterNotice) -> None:
        assert self.actor is not None
        dead: DeadLetter = notice.dead
        await self.actor.on_undelivered(dead)

    def watch(self, name: str) -> bool:
        """Watch an actor; returns whether it was not watched before."""
        return self._watched.setdefault(name, -1) == -1

    async def _note_watched(self, notice: WatchNotice) -> None:
        assert self.actor is not None
        name, incarnation = notice.name, notice.incarnation
        if notice.up:
            self.cell.last_ended.pop(name, None)
            return
        self.cell.last_ended[name] = incarnation
        last = self._watched.get(name)
        if last is not None and incarnation > last and not self.cell.draining:
            self._watched[name] = incarnation
            await self.actor.on_down(name, incarnation)

    async def _leave(self, leave: EndIncarnation) -> None:
        if leave.incarnation is self:
            self._serving.cancel()
            await self.clock.pass_turn()

    # Stopping.

    def _is_crash(self, error: BaseException) -> bool:
        """Whether the error is a crash: also asyncio's CancelledError of an awaited task that something else
        cancelled.
        """
        if isinstance(error, anyio.get_cancelled_exc_class()):
            ended = self._scope.cancel_called or self._tasks is None or self._tasks.cancel_scope.cancel_called
            return not ended
        return isinstance(error, Exception)

    def _note_crash(self, error: BaseException, doing: str, message: Message | None) -> None:
        if self.crash is None:
            self.crash = Crash(error, doing, message)
        self.kill()

    async def halt(self) -> None:
        """Stop in order: the loop, the handler in progress, `on_stop`. Cancelled, it is killed instead."""
        self.told_to_end = True
        try:
            if self.actor is None:  # not started yet, or ending already
                self.kill()
            self.clock.cancel(self._looping, self.cell.name)
            self.clock.cancel(self._serving, self.cell.name)
            await self.down.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """End at once; messages in progress are in doubt."""
        self._tasks = None  # no further tasks are started
        for mailbox in self.cell.concurrent:
            mailbox.close()
        self.clock.cancel(self._scope, self.cell.name)


def _refusal(error: Refused) -> Outcome:
    return Outcome.STOPPING if isinstance(error, Stopping) else Outcome.REFUSED
