"""The actor system of one run: creates, wires, starts, supervises and stops all actors, in order."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskStatus

from actorq.actors.actor import State
from actorq.actors.errors import ActorDied, ActorFailed
from actorq.actors.ref import Group, Ref
from actorq.actors.spec import MAIN, ActorSpec, GroupSpec
from actorq.actors.statistics import SystemStatistics
from actorq.actors.supervision.node_supervisor import NodeSupervisor
from actorq.actors.supervision.remote_node import Launcher, RemoteActorCell, RemoteNode
from actorq.actors.supervision.supervisor import Supervisor
from actorq.actors.wire.transport import Membership, Transport, make_transport

from .actor_cell import ActorCell
from .deadlock import StartOrder
from .deterministic_scheduler import DeterministicScheduler
from .local import LocalActors
from .reports import Reports, ReportTotals
from .scheduler import ConcurrentScheduler, Event, Scheduler
from .watchdog import Watchdog

log = logging.getLogger("actorq.actors")

STOP_SECONDS = 2.0
"""Time limit of draining and `on_stop` together; writing files comes on top."""

DRAIN_SECONDS = 1.5
"""Time limit of draining alone."""


class System:
    """Runs actors on the current event loop: `async with System(specs) as system:`.

    Entering starts the actors in order and then their own loops; leaving stops them in order. If an actor
    crashes past its limits all are stopped, the body is cancelled and ActorFailed is raised, with the
    actor's error as its cause. Cancelled from outside, it stops in order within two seconds.

    The actors of the nodes named in `elsewhere` run in processes that `launcher` starts; the others here, and
    if `direct` these reach each other without the transport.
    """

    def __init__(
        self,
        specs: Sequence[ActorSpec],
        groups: Sequence[GroupSpec] = (),
        *,
        transport: Transport | None = None,
        membership: Membership | None = None,
        direct: bool = False,
        elsewhere: Sequence[str] = (),
        launcher: Launcher | None = None,
        reports: Reports | None = None,
        deterministic: bool = False,
        seed: int = 0,
        states: dict[str, State] | None = None,
    ) -> None:
        self.reports = reports if reports is not None else ReportTotals()
        self._deterministic = DeterministicScheduler(seed) if deterministic else None
        self.scheduler: Scheduler = self._deterministic or ConcurrentScheduler()
        self._failure: ActorFailed | None = None
        self._quiet = False
        self._infrastructure = anyio.CancelScope(shield=True)
        self._stopped: Event | None = None
        self._stop_seconds_left = STOP_SECONDS
        self.final_states: dict[str, State] = {}
        """After stopping: every actor's state, taken after draining and before `on_stop`."""
        self.supervisor = Supervisor(groups, self.scheduler, seed, self._restarted, self._fail)
        self._specs = {spec.name: spec for spec in specs}
        self._local = LocalActors(
            self._specs,
            [name for name in self._node_names() if name not in elsewhere],
            transport=transport if transport is not None else make_transport("inproc"),
            membership=membership if membership is not None else Membership(),
            scheduler=self.scheduler,
            reports=self.reports,
            on_end=self.supervisor.incarnation_ended,
            direct=direct,
        )
        self._remote = {name: self._remote_node(name) for name in elsewhere}
        self._node_supervisor = NodeSupervisor(
            self._remote.values(), self._local, launcher, self.supervisor.node_lost
        )
        self.supervisor.node_supervisor = self._node_supervisor
        self.cells = self._cells(states or {})
        self.supervisor.cells = list(self.cells.values())

    def _node_names(self) -> Iterable[str]:
        return dict.fromkeys([MAIN, *(spec.node for spec in self._specs.values())])

    def _remote_node(self, name: str) -> RemoteNode:
        specs = [spec for spec in self._specs.values() if spec.node == name]
        return RemoteNode(name, specs, self.scheduler, self.reports, self.supervisor.incarnation_ended)

    def _cells(self, states: Mapping[str, State]) -> dict[str, ActorCell | RemoteActorCell]:
        """The cells of all actors in file order, local and remote."""
        cells: dict[str, ActorCell | RemoteActorCell] = {}
        for name, spec in self._specs.items():
            remote = self._remote.get(spec.node)
            cell = remote.cells[name] if remote is not None else self._local.cells[name]
            cell.snapshot = states.get(name)
            cells[name] = cell
        return cells

    # Start and end.

    async def __aenter__(self) -> Self:
        self.scheduler.begin()
        self._nursery = anyio.create_task_group()
        await self._nursery.__aenter__()
        self.supervisor.task_group = self._nursery
        if self._deterministic is None:
            self._nursery.start_soon(Watchdog().watch)
        try:
            await self._in_turn(self._start)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def _start(self) -> None:
        if self._local.transport.crosses_processes:
            await self._nursery.start(self._serve)
            self._local.peer_up(self._local.peers())
            await self._node_supervisor.launch_all()
        order = StartOrder(tuple(self.cells))
        for cell in self.cells.values():
            cell.follow(order)
        for cell in self.cells.values():
            await cell.start(self._nursery, order)
            await cell.ready.wait()
            if self._failure is not None:
                await self.scheduler.event().wait()  # the stop in progress cancels it
        for cell in self.cells.values():
            cell.begin()
        self._node_supervisor.begin_all()

    async def _serve(self, *, task_status: TaskStatus[None]) -> None:
        """Run the transport and the node supervisor until the actors have stopped, also when the run is
        cancelled.
        """
        with self._infrastructure:
            async with anyio.create_task_group() as tasks:
                self._node_supervisor.task_group = tasks
                tasks.start_soon(self._local.transport.serve)
                task_status.started()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            await self.stop()
        finally:
            for cell in self.cells.values():
                cell.kill()
            self._infrastructure.cancel()
            self._nursery.cancel_scope.cancel()
            cancelled = isinstance(error, anyio.get_cancelled_exc_class())
            given = (
                (kind, error, traceback) if cancelled else (None, None, None)
            )  # keeps the other exceptions ungrouped
            swallowed = await self._nursery.__aexit__(*given)
        if self._failure is not None and (error is None or swallowed or isinstance(error, ActorDied)):
            raise self._failure
        return swallowed and cancelled

    async def _in_turn(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run a function in the scheduler's order, between steps of the actors."""
        if self._deterministic is not None:
            self._deterministic.go_on()
        await self.scheduler.take_part("system", function)

    async def _restarted(self, cell: ActorCell | RemoteActorCell) -> None:
        """Send a restarted actor the latest message of each topic it subscribes to."""
        for feed in cell.definition.ports.values():
            if feed.kind == "feed":
                for name in cell.spec.ports.get(feed.name, ()):
                    await self.cells[name].repeat(cell.name)

    def _fail(self, failure: ActorFailed) -> None:
        if self._failure is None:
            self._failure = failure
            self.scheduler.spawn(self._nursery, "system", self._stop_and_leave)

    async def _stop_and_leave(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()
        self._nursery.cancel_scope.cancel()

    # Stopping.

    def hold(self) -> None:
        """In a deterministic run, schedule no further steps until `stop`; called when the run ends."""
        if self._deterministic is not None:
            self._deterministic.hold()

    async def quiesce(self) -> None:
        """Cancel the actors' own loops and handle the remaining messages, for at most DRAIN_SECONDS.

        Shielded from cancellation.
        """
        if not self._quiet:
            self._quiet = True
            self.supervisor.stop()
            await self._in_turn(self._quiesce)

    async def _quiesce(self) -> None:
        self._local.stop_runs()
        self._node_supervisor.stop_runs()
        began = anyio.current_time()
        with anyio.move_on_after(DRAIN_SECONDS, shield=True) as scope:
            await self._until_quiet()
        if scope.cancelled_caught:
            names = ", ".join(cell.name for cell in self._local.busy()) or "messages in flight"
            log.warning("stopping: not drained within %g s, still busy: %s", DRAIN_SECONDS, names)
        self._stop_seconds_left -= anyio.current_time() - began

    async def _until_quiet(self) -> None:
        """Wait until all processes report twice in a row that nothing happened in between; see
        LocalActors.quiet.
        """
        before: list[int] = []
        while True:
            happened = [await self._local.quiet(), *await self._node_supervisor.quiet()]
            if happened == before or not self._local.transport.crosses_processes:
                return
            before = happened

    async def stop(self) -> None:
        """Stop all actors in order: cancel loops, drain, then `on_stop` from the last to the first.

        Returns when stopping is complete, also if another task started it. Shielded from cancellation.
        """
        with anyio.CancelScope(shield=True):
            if self._stopped is not None:
                await self._stopped.wait()
                return
            self._stopped = self.scheduler.event()
            try:
                await self._in_turn(self._stop)
            finally:
                try:
                    await self._local.close()
                finally:
                    self._stopped.set()

    async def _stop(self) -> None:
        await self.quiesce()
        began = anyio.current_time()
        await self._node_supervisor.end_silent(self._stop_seconds_left / 2)
        self._stop_seconds_left -= anyio.current_time() - began
        self.final_states = await self._states(busy=False)
        deadline = anyio.current_time() + self._stop_seconds_left
        for cell in reversed(self.cells.values()):
            # Each `on_stop` gets half of the remaining time, so that a hanging one leaves time to the actors
            # before it.
            with anyio.move_on_after((deadline - anyio.current_time()) / 2) as scope:
                await cell.halt()
            if scope.cancelled_caught:
                log.warning("stopping: %s did not end in time and was cut short in %s", cell.name, cell.doing)
            if not cell.retired:
                cell.retire("the run has stopped")
        await self._node_supervisor.dismiss(deadline)

    async def states(self) -> dict[str, State]:
        """Every actor's state, each taken between two of its handlers."""
        return await self._states(busy=True)

    async def _states(self, busy: bool) -> dict[str, State]:
        found = {name: await cell.take_state(busy) for name, cell in self.cells.items()}
        return {name: state for name, state in found.items() if state}

    # Access from the application.

    def ref(self, name: str) -> Ref[Any]:
        """A ref to one actor, for the application outside. Raises KeyError with the names of all actors."""
        if name not in self._specs:
            raise KeyError(f"no actor {name!r}; there are {', '.join(self._specs)}")
        return self._local.ref(self._specs[name])

    def group(self, name: str) -> Group[Any]:
        """The members of an actor declared with a count."""
        members = [member for member in self._specs if member.rpartition(".")[0] == name]
        if not members:
            raise KeyError(f"no group {name!r}")
        return Group([self.ref(member) for member in members])

    @property
    def undelivered(self) -> int:
        """Number of dead letters whose handlers were certainly not started."""
        return self._local.undelivered + sum(node.undelivered for node in self._remote.values())

    @property
    def in_doubt(self) -> int:
        """Number of dead letters whose handlers may have been started."""
        return self._local.in_doubt + sum(node.in_doubt for node in self._remote.values())

    def statistics(self) -> SystemStatistics:
        """Statistics of all actors; for remote nodes the newest reading that they have sent."""
        actors = tuple(cell.statistics() for cell in self.cells.values())
        traffic = sum((node.traffic for node in self._remote.values()), self._local.transport.statistics())
        return SystemStatistics(actors, self.undelivered, self.in_doubt, traffic)
