"""The coordinator's view of nodes in other processes: sends commands, applies the events they report."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from anyio.abc import TaskGroup

from actorq.actors.errors import ActorqError
from actorq.actors.runtime.actor_cell import HEALTHY_SECONDS
from actorq.actors.runtime.deadlock import StartOrder
from actorq.actors.runtime.reports import Reports
from actorq.actors.runtime.scheduler import Event, Scheduler
from actorq.actors.spec import ActorSpec
from actorq.actors.statistics import ActorStatistics, MailboxStatistics, TransportStatistics
from actorq.actors.wire.state_codec import StateValue
from actorq.actors.wire.transport import Peer

from . import control_messages as commands

log = logging.getLogger("actorq.actors")


class NodeDied(ActorqError):
    """A node's process has ended or doesn't answer."""


class RemoteError(ActorqError):
    """An error raised by an actor in another process, as text; its traceback is the cause."""


class RemoteTraceback(Exception):
    """A traceback from another process."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0])


@dataclass(frozen=True, slots=True)
class Death:
    """How a node's process ended."""

    reason: str
    page: bytes | None
    """The node's delivery log; None if it could not be read."""


class NodeHandle(Protocol):
    """Handle of a running node process, returned by its launcher."""

    peer: Peer

    def post(self, order: commands.Commands) -> None:
        """Queue a command without waiting; lost if the process dies."""
        ...

    def node_events(self) -> AsyncIterator[commands.NodeEvents]:
        """The node's events, until the process ends."""
        ...

    async def ended(self) -> Death:
        """Return when the process has ended and all of its resources are released."""
        ...

    async def aclose(self) -> None:
        """End the process if it is running, and release its resources."""
        ...


class Launcher(Protocol):
    """Starts node processes."""

    async def launch(self, node: str, incarnation: int) -> NodeHandle:
        """Return when the node is ready. Raises NodeDied with the reason if it fails. Cancelled, nothing is
        left.
        """
        ...


@dataclass(frozen=True, slots=True)
class RemoteCrash:
    """The error that ended a remote incarnation, as text."""

    error: BaseException
    text: str
    fatal: bool = False

    def describe(self) -> str:
        return self.text


class RemoteIncarnation:
    """One incarnation of an actor in another process."""

    def __init__(self, clock: Scheduler) -> None:
        self.up, self.down = clock.event(), clock.event()
        self.crash: RemoteCrash | None = None
        self.told_to_end = False
        self.began = clock.now()

    def end(self, crash: RemoteCrash | None, told_to_end: bool = False) -> None:
        self.crash, self.told_to_end = crash, told_to_end
        self.up.set()
        self.down.set()


class RemoteActorCell:
    """The coordinator's record of an actor in another process: ActorCell's interface, by commands."""

    def __init__(self, spec: ActorSpec, node: RemoteNode, clock: Scheduler) -> None:
        self.spec = spec
        self.name = spec.name
        self.definition = spec.cls.definition.complete()
        self.node = node
        self.clock = clock
        self.incarnation: RemoteIncarnation | None = None
        self.snapshot: dict[str, Any] | None = None
        self.restarts = self.crashes = 0
        self.progressed = False
        self.started = self.begun = False
        self.retired = ""
        self.ready = clock.event()
        self.start_order: StartOrder | None = None
        """Start order whose completion this actor waits for; see ActorCell.follow."""
        self.knows_snapshot = False
        """Whether the node's current process has the last snapshot itself."""

    async def start(self, task_group: TaskGroup, order: StartOrder) -> None:
        """Start an incarnation once the node is up; return when the actor has started, or starting has
        failed.
        """
        await self.node.present()
        self.started = True  # not earlier: a recovery of the node would start the actor as well
        self.progressed = False
        self.incarnation = incarnation = RemoteIncarnation(self.clock)
        snapshot = None
        if self.snapshot is not None and not self.knows_snapshot:
            snapshot = StateValue(self.snapshot)
        self.knows_snapshot = True
        self.node.post(commands.Start(self.name, self.begun, self.restarts, snapshot))
        await incarnation.up.wait()

    def follow(self, order: StartOrder) -> None:
        self.start_order = order
        self.node.post(commands.AwaitStartOrder((self.name,), order.members))

    def launched(self) -> None:
        """Repeat to a new node process what it has to know of this actor."""
        if self.retired:
            self.retire(self.retired)
        elif self.start_order is not None:
            self.follow(self.start_order)

    def came_up(self) -> None:
        self.start_order = None
        if self.incarnation is not None:
            self.incarnation.up.set()
        self.ready.set()

    def ended_with(self, ended: commands.ActorEnded) -> RemoteIncarnation | None:
        """The incarnation that has ended, if one was running."""
        incarnation, self.incarnation = self.incarnation, None
        if incarnation is not None:
            crash = None
            if ended.crash is not None:
                self.crashes += 1
                crash = _crash(ended.crash)
            incarnation.end(crash, ended.told_to_end or incarnation.told_to_end)
        return incarnation

    def lost(self, reason: str) -> None:
        """The node has died."""
        incarnation, self.incarnation = self.incarnation, None
        self.knows_snapshot = False
        if incarnation is not None:
            incarnation.end(RemoteCrash(NodeDied(reason), f"was lost with node {self.node.name}: {reason}"))

    def begin(self) -> None:
        self.begun = True

    @property
    def alive(self) -> bool:
        return self.incarnation is not None

    @property
    def doing(self) -> str:
        return f"node {self.node.name}"

    async def take_state(self, busy: bool = True) -> dict[str, Any] | None:
        """See ActorCell.take_state."""
        if self.incarnation is not None and self.incarnation.up.is_set():
            await self.node.request(lambda number: commands.TakeState(number, self.name, busy))
        return self.snapshot

    def made_progress(self) -> None:
        if self.incarnation is not None and self.clock.now() - self.incarnation.began >= HEALTHY_SECONDS:
            self.progressed = True

    async def repeat(self, subscriber: str) -> None:
        self.node.post(commands.Repeat(self.name, subscriber))

    async def halt(self) -> None:
        """Stop the running incarnation, if any, in order. If cancelled, it is killed instead."""
        incarnation = self.incarnation
        if incarnation is None:
            return
        incarnation.told_to_end = True  # whichever event of it arrives first
        self.node.post(commands.HaltActor(self.name))
        try:
            await incarnation.down.wait()
        finally:
            if not incarnation.down.is_set():
                self.kill()

    def kill(self) -> None:
        if self.incarnation is not None:
            self.node.post(commands.Kill(self.name))

    async def ended(self) -> None:
        """Return when no incarnation is running."""
        if self.incarnation is not None:
            await self.incarnation.down.wait()

    def retire(self, reason: str) -> None:
        self.retired = reason
        self.ready.set()
        self.node.post(commands.Retire(self.name, reason))

    def statistics(self) -> ActorStatistics:
        """The newest statistics that the node has sent."""
        known = self.node.readings.get(self.name)
        if known is None:
            nothing = MailboxStatistics(unread=0, unread_bytes=0, in_progress=0, handled=0, refused=0)
            known = ActorStatistics(self.name, self.node.name, False, 0, 0, nothing, ())
        return replace(
            known,
            alive=self.incarnation is not None and known.alive,
            restarts=self.restarts,
            crashes=self.crashes,
        )


class RemoteNode:
    """A node in another process; the same object over all launches of its process."""

    def __init__(
        self,
        name: str,
        specs: Sequence[ActorSpec],
        clock: Scheduler,
        reports: Reports,
        incarnation_ended: Callable[[RemoteActorCell, RemoteIncarnation], None],
    ) -> None:
        self.name = name
        self.cells = {spec.name: RemoteActorCell(spec, self, clock) for spec in specs}
        self.handle: NodeHandle | None = None
        self.starts = 0
        self.leaving = False
        """Set when the node was commanded to end: its end is no failure."""
        self.readings: dict[str, ActorStatistics] = {}
        self._clock = clock
        self._reports = reports
        self._incarnation_ended = incarnation_ended
        self._launched = clock.event()
        self._requests: dict[int, tuple[Event, list[Any]]] = {}
        self._numbers = 0
        self._dead_letters = (0, 0)
        self._dead_letters_before = (0, 0)
        self._readings_before: dict[str, ActorStatistics] = {}
        self._traffic = self._traffic_before = TransportStatistics()

    def launched(self, handle: NodeHandle) -> None:
        """The node's process is up."""
        self.handle = handle
        self.starts += 1
        self._launched.set()

    async def present(self) -> None:
        """Return when the node has a process."""
        while self.handle is None:
            await self._launched.wait()

    def post(self, order: commands.Commands) -> None:
        if self.handle is not None:
            self.handle.post(order)

    async def request(self, order: Callable[[int], commands.Commands]) -> Any:
        """Send a numbered command and return the node's reply; None if the node dies first."""
        if self.handle is None:
            return None
        self._numbers += 1
        number, answer = self._numbers, list[Any]()
        event = self._clock.event()
        self._requests[number] = event, answer
        try:
            self.post(order(number))
            await event.wait()
        finally:
            self._requests.pop(number, None)
        return answer[0] if answer else None

    async def listen(self) -> Death:
        """Apply the events of the current process until it has ended."""
        handle = self.handle
        assert handle is not None
        async for node_event in handle.node_events():
            self._apply(node_event)
        return await handle.ended()

    def _apply(self, node_event: commands.NodeEvents) -> None:
        match node_event:
            case commands.Counted(actor, name, amount):
                self.cells[actor].made_progress()
                self._reports.count(actor, name, amount)
            case commands.Gauged(actor, name, value):
                self._reports.gauge(actor, name, value)
            case commands.Observed(actor, name, distribution):
                self._reports.merge(actor, name, distribution)
            case commands.Up(actor):
                self.cells[actor].came_up()
            case commands.ActorEnded(actor):
                cell = self.cells[actor]
                incarnation = cell.ended_with(node_event)
                if incarnation is not None:
                    self._incarnation_ended(cell, incarnation)
            case commands.Done(number, value):
                if number in self._requests:
                    event, answer = self._requests[number]
                    answer.append(value)
                    event.set()
            case commands.SnapshotTaken(actor, state):
                self.cells[actor].snapshot = state.value
            case commands.Readings(actors, undelivered, in_doubt, traffic):
                self.readings = {
                    actor.name: actor.after(self._readings_before.get(actor.name)) for actor in actors
                }
                self._traffic = traffic
                self._dead_letters = (undelivered, in_doubt)

    def lost(self, reason: str) -> None:
        """The process has ended: release everything that waits for it."""
        self.handle = None
        self._launched = self._clock.event()
        before, now = self._dead_letters_before, self._dead_letters
        self._dead_letters_before = (before[0] + now[0], before[1] + now[1])
        self._readings_before = self.readings
        self._traffic_before, self._traffic = self.traffic, TransportStatistics()
        self._dead_letters = (0, 0)
        for event, _ in self._requests.values():
            event.set()
        for cell in self.cells.values():
            cell.lost(reason)

    @property
    def traffic(self) -> TransportStatistics:
        """Transport statistics, summed over all processes of the node."""
        return self._traffic_before + self._traffic

    @property
    def undelivered(self) -> int:
        return self._dead_letters_before[0] + self._dead_letters[0]

    @property
    def in_doubt(self) -> int:
        return self._dead_letters_before[1] + self._dead_letters[1]

    async def quiet(self) -> int:
        """See LocalActors.quiet."""
        return await self.request(commands.AwaitQuiet) or 0


def _crash(text: commands.CrashText) -> RemoteCrash:
    error = RemoteError(text.error)
    error.__cause__ = RemoteTraceback(text.traceback)
    in_progress = f" over {text.message}" if text.message else ""
    return RemoteCrash(error, f"crashed in {text.doing}{in_progress}: {text.error}", text.fatal)
