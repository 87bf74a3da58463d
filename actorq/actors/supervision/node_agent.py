"""The node agent: runs the actors of one node in a process of its own, by the coordinator's commands."""

from __future__ import annotations

import logging
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio

from actorq.actors.actor import State
from actorq.actors.errors import ActorqError
from actorq.actors.histogram import Distribution, Histogram
from actorq.actors.runtime.actor_cell import ActorCell
from actorq.actors.runtime.deadlock import StartOrder
from actorq.actors.runtime.incarnation import ActorIncarnation, Crash
from actorq.actors.runtime.local import LocalActors
from actorq.actors.runtime.scheduler import ConcurrentScheduler
from actorq.actors.runtime.watchdog import Watchdog
from actorq.actors.spec import ActorSpec
from actorq.actors.wire.state_codec import StateValue
from actorq.actors.wire.transport import Membership, Transport

from . import control_messages as commands
from .delivery_log import DeliveryLog

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger("actorq.actors")

Post = Callable[[commands.NodeEvents], None]

READINGS_SECONDS = 0.5


class NodeAgent:
    """The agent of one node. `post` queues a node event to the coordinator without waiting."""

    def __init__(
        self,
        specs: Mapping[str, ActorSpec],
        node: str,
        *,
        transport: Transport,
        membership: Membership,
        delivery_log: DeliveryLog | None,
        post: Post,
    ) -> None:
        """`specs`: all actors of the run. `delivery_log`: in memory that is readable after this process's
        death.
        """
        self._node = node
        self._post = post
        self._leaving = False
        self._due: set[str] = set()
        """Actors commanded to start whose incarnations have not begun yet."""
        self._sent: dict[str, State] = {}
        """The actors' states that the coordinator has."""
        self._clock = ConcurrentScheduler()
        self._clock.begin()
        self._reports = _Forwarded(post)
        self._local = LocalActors(
            specs,
            [node],
            transport=transport,
            membership=membership,
            scheduler=self._clock,
            reports=self._reports,
            on_end=self._ended,
            delivery_log=delivery_log,
        )
        for cell in self._local.cells.values():
            cell.on_snapshot = self._took_snapshot

    async def follow(self, given: AsyncIterator[commands.Commands]) -> None:
        """Execute commands until LeaveRun or the end of the stream.

        Cancelled, the actors end at once.
        """
        async with anyio.create_task_group() as self._tasks:
            try:
                self._tasks.start_soon(self._local.transport.serve)
                self._tasks.start_soon(Watchdog().watch)
                self._tasks.start_soon(self._keep_reading)
                for peer in self._local.peers():
                    self._post(commands.Listening(peer))
                async for order in given:
                    if isinstance(order, commands.LeaveRun):
                        break
                    self._do(order)
                self._read()
            finally:
                self._leaving = True
                for cell in self._local.cells.values():
                    cell.kill()
                self._tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self._local.transport.close()

    def _do(self, order: commands.Commands) -> None:
        cells, local = self._local.cells, self._local
        match order:
            case commands.PeerUp(peers):
                local.peer_up(peers)
            case commands.PeerDown(node, page, reason, for_good):
                local.peer_down(node, page, reason, for_good)
            case commands.ActorsDown(ended):
                local.actors_down(ended)
            case commands.AwaitStartOrder(actors, members):
                for name in actors:
                    cells[name].follow(StartOrder(members))
            case commands.Start(actor):
                self._prepare(cells[actor], order)
                self._tasks.start_soon(self._start, cells[actor])
            case commands.Begin():
                for cell in cells.values():
                    cell.begin()
            case commands.StopRuns():
                local.stop_runs()
            case commands.HaltActor(actor) | commands.Kill(actor) if actor in self._due:
                self._due.remove(actor)
                self._post(commands.ActorEnded(actor, told_to_end=True))
            case commands.HaltActor(actor):
                self._tasks.start_soon(cells[actor].halt)
            case commands.Kill(actor):
                cells[actor].kill()
            case commands.Retire(actor, reason):
                cells[actor].retire(reason)
            case commands.Answer(number):
                self._post(commands.Done(number))
            case commands.AwaitQuiet(number):
                self._tasks.start_soon(self._await_quiet, number)
            case commands.TakeState(number, actor, busy):
                self._tasks.start_soon(self._take_state, number, cells[actor], busy)
            case commands.Repeat(actor, subscriber):
                self._tasks.start_soon(cells[actor].repeat, subscriber)

    def _prepare(self, cell: ActorCell, order: commands.Start) -> None:
        """Applied at once, since the following commands may concern the same incarnation."""
        self._due.add(cell.name)
        cell.restarts = order.restarts
        cell.begun = order.begun
        if order.snapshot is not None:
            cell.snapshot = self._sent[cell.name] = order.snapshot.value

    async def _start(self, cell: ActorCell) -> None:
        if cell.name not in self._due:
            return
        self._due.remove(cell.name)
        await cell.start(self._tasks, StartOrder((cell.name,)))
        if cell.actor is not None:
            self._post(commands.Up(cell.name))

    async def _await_quiet(self, number: int) -> None:
        self._post(commands.Done(number, await self._local.quiet()))

    async def _take_state(self, number: int, cell: ActorCell, busy: bool) -> None:
        await cell.take_state(busy)
        self._took_snapshot(cell)
        self._post(commands.Done(number))

    def _took_snapshot(self, cell: ActorCell) -> None:
        """Send the snapshot. If it can't be encoded the actor crashes, and keeps its previous snapshot."""
        if cell.snapshot is None:
            return
        try:
            self._post(commands.SnapshotTaken(cell.name, StateValue(cell.snapshot)))
            self._sent[cell.name] = cell.snapshot
        except ActorqError as error:
            cell.snapshot = self._sent.get(cell.name)
            cell.start_soon(state, error)

    def _ended(self, cell: ActorCell, incarnation: ActorIncarnation) -> None:
        if self._leaving:
            return  # the end of the process reports all actors' ends
        crash = _as_text(incarnation.crash) if incarnation.crash is not None else None
        self._post(commands.ActorEnded(cell.name, incarnation.told_to_end, crash))

    async def _keep_reading(self) -> None:
        while True:
            self._read()
            await anyio.sleep(READINGS_SECONDS)

    def _read(self) -> None:
        actors = tuple(cell.statistics() for cell in self._local.cells.values())
        local, traffic = self._local, self._local.transport.statistics()
        self._post(commands.Readings(actors, local.undelivered, local.in_doubt, traffic))
        self._reports.send_observed()


class _Forwarded:
    """Forwards reports to the coordinator: gauges and counts at once, distributions merged until they are
    sent.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        self._observed: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)

    def gauge(self, actor: str, name: str, value: float) -> None:
        self._post(commands.Gauged(actor, name, float(value)))

    def count(self, actor: str, name: str, amount: int) -> None:
        self._post(commands.Counted(actor, name, int(amount)))

    def observe(self, actor: str, name: str, values: float | NDArray[Any]) -> None:
        self._observed[actor, name].add(values)

    def merge(self, actor: str, name: str, observed: Distribution) -> None:
        self._observed[actor, name].merge(observed)

    def send_observed(self) -> None:
        for (actor, name), histogram in self._observed.items():
            distribution = histogram.take()
            if distribution.cells or distribution.not_finite:
                self._post(commands.Observed(actor, name, distribution))


async def state(error: ActorqError) -> None:
    """Raise the error in the actor's task, which crashes the actor."""
    raise error


def _as_text(crash: Crash) -> commands.CrashText:
    error = crash.error
    return commands.CrashText(
        doing=crash.doing,
        message="" if crash.message is None else type(crash.message).__name__,
        error=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
        fatal=crash.fatal,
    )
