"""The supervisor: restart strategies, back-off and restart limits after crashes of actors and nodes.

After Erlang/OTP: one-for-one, one-for-all and rest-for-one, with at most `max_restarts` within a time.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from actorq.actors.errors import ActorFailed, NodeFailed
from actorq.actors.runtime.actor_cell import ActorCell
from actorq.actors.runtime.deadlock import StartOrder
from actorq.actors.runtime.incarnation import ActorIncarnation, Crash
from actorq.actors.runtime.scheduler import Scheduler
from actorq.actors.spec import GroupSpec, RestartLimits
from actorq.actors.wire.node_incarnation import MAX_STARTS

from .node_supervisor import NodeSupervisor
from .remote_node import NodeDied, RemoteActorCell, RemoteCrash, RemoteIncarnation, RemoteNode

log = logging.getLogger("actorq.actors")

HALT_SECONDS = 2.0
"""Time limit for an actor to stop when it is restarted with its group."""

AnyCell = ActorCell | RemoteActorCell


@dataclass(slots=True)
class Recovery:
    """A restart in progress, of actors and of the nodes they need."""

    name: str
    cells: list[AnyCell]
    """Cells that have not been restarted yet."""
    nodes: list[RemoteNode] = field(default_factory=list)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Supervisor:
    """Supervises all cells of a run, in the order of their start."""

    def __init__(
        self,
        groups: Sequence[GroupSpec],
        clock: Scheduler,
        seed: int,
        restarted: Callable[[AnyCell], Awaitable[None]],
        failed: Callable[[ActorFailed], None],
    ) -> None:
        self._groups = {group.name: group for group in (GroupSpec(), *groups)}
        self._clock = clock
        self._random = random.Random(seed)
        self._restarted = restarted
        self._failed = failed
        self._history: defaultdict[str, deque[float]] = defaultdict(deque)
        self._recoveries: list[Recovery] = []
        self.cells: Sequence[AnyCell] = ()
        self.node_supervisor: NodeSupervisor | None = None
        self.task_group: TaskGroup | None = None
        self.stopping = False

    def stop(self) -> None:
        """Restart no actor and no node from now on."""
        self.stopping = True
        for recovery in self._recoveries:
            if recovery.nodes:
                self._clock.cancel(recovery.scope, recovery.name)

    def incarnation_ended(self, cell: AnyCell, incarnation: ActorIncarnation | RemoteIncarnation) -> None:
        """Handle the end of an incarnation: ignore, retire, restart or fail the run."""
        crash = incarnation.crash
        if crash is not None:
            log.error("%s %s", cell.name, crash.describe(), exc_info=crash.error)
        if self.stopping:
            if crash is not None:
                self._give_up(cell, crash, f"{crash.describe()} while the run was stopping")
        elif incarnation.told_to_end:
            pass  # the task that stopped it restarts it
        elif crash is not None and crash.fatal:
            self._give_up(cell, crash, crash.describe())
        elif cell.spec.restart == "never":
            why = crash.describe() if crash is not None else "has ended"
            cell.retire(f"{cell.name} {why}, and its restart policy is never")
        else:
            self._recover(cell, crash)

    def _recover(self, cell: AnyCell, crash: Crash | RemoteCrash | None) -> None:
        group = self._groups[cell.spec.group]
        key = f"actor {cell.name}" if group.strategy == "one-for-one" else f"group {group.name}"
        pause = self._pause(key, group.limits, cell.progressed)
        if pause is None:
            why = crash.describe() if crash is not None else "ended its run loop"
            self._give_up(cell, crash, f"{why}; {_often(group.limits)}")
            return
        self._begin(Recovery(f"recovery of {key}", self._affected(cell, group)), pause)

    def node_lost(self, node: RemoteNode, reason: str) -> None:
        """Handle the death of a node's process, and with it of all its actors."""
        assert self.node_supervisor is not None
        cells, limits = node.cells.values(), RestartLimits()
        progressed = any(cell.progressed for cell in cells)
        for cell in cells:
            cell.progressed = (
                False  # it resets the restart count once, however often launching fails afterwards
            )
        if self.stopping:
            self.node_supervisor.retire(node, f"node {node.name} {reason}")
            self._fail(NodeFailed(node.name, f"{reason} while the run was stopping"), None)
            return
        for cell in cells:
            if cell.started and cell.spec.restart == "never":
                cell.retire(f"{cell.name} was lost with node {node.name}, and its restart policy is never")
        if all(cell.retired for cell in cells):
            self.node_supervisor.retire(
                node, f"node {node.name} {reason}, and none of its actors is ever restarted"
            )
            return
        pause = self._pause(f"node {node.name}", limits, progressed)
        enough = _often(limits) if pause is None else ""
        if node.starts >= MAX_STARTS:
            enough = f"it has been started {node.starts} times, as often as a node can be in one run"
        if pause is None or enough:
            self.node_supervisor.retire(node, f"node {node.name} {reason}, and is not started again")
            self._fail(NodeFailed(node.name, f"{reason}; {enough}"), NodeDied(reason))
            return
        affected: dict[str, AnyCell] = {}
        for cell in cells:
            if cell.started and not cell.retired:
                affected.update({c.name: c for c in self._affected(cell, self._groups[cell.spec.group])})
        self._begin(Recovery(f"recovery of node {node.name}", list(affected.values()), [node]), pause)

    def _affected(self, cell: AnyCell, group: GroupSpec) -> list[AnyCell]:
        """The cells restarted together with this one; cells not started yet start in their order."""
        if group.strategy == "one-for-one":
            return [cell]
        members = [other for other in self.cells if other.spec.group == group.name and not other.retired]
        members = [other for other in members if other.started]
        return members if group.strategy == "one-for-all" else members[members.index(cell) :]

    def _begin(self, recovery: Recovery, pause: float) -> None:
        """Start a recovery; recoveries in progress of the same actors or nodes are merged into it."""
        cells, nodes = recovery.cells, recovery.nodes
        for other in list(self._recoveries):
            if any(cell in cells for cell in other.cells) or any(node in nodes for node in other.nodes):
                self._recoveries.remove(other)
                self._clock.cancel(other.scope, other.name)
                cells += [cell for cell in other.cells if cell not in cells]
                nodes += [node for node in other.nodes if node not in nodes and node.handle is None]
        cells.sort(key=list(self.cells).index)
        self._recoveries.append(recovery)
        assert self.task_group is not None
        self._clock.spawn(self.task_group, recovery.name, self._restart, recovery, pause)

    async def _restart(self, recovery: Recovery, pause: float) -> None:
        with recovery.scope:
            order = StartOrder(tuple(cell.name for cell in recovery.cells))
            await self._halt(recovery.cells, order)
            await self._clock.sleep(pause)
            for node in recovery.nodes:
                if self.stopping or (node.handle is None and not await self._relaunch(node)):
                    return
            for cell in recovery.cells:
                cell.follow(order)
            for cell in list(recovery.cells):
                if cell.retired or self.stopping or recovery.scope.cancel_called:
                    continue
                cell.restarts += 1
                assert self.task_group is not None
                await cell.start(self.task_group, order)
                await self._restarted(cell)
                recovery.cells.remove(cell)
        if recovery in self._recoveries:
            self._recoveries.remove(recovery)

    async def _halt(self, cells: Sequence[AnyCell], order: StartOrder) -> None:
        for cell in reversed(cells):
            cell.follow(order)
            with anyio.move_on_after(HALT_SECONDS):
                await cell.halt()
            await cell.ended()
            if cell.spec.restart == "never":
                cell.retire(f"{cell.name} was stopped with its group, and its restart policy is never")

    async def _relaunch(self, node: RemoteNode) -> bool:
        """Launch a node's process again; if that fails, the node counts as lost once more."""
        assert self.node_supervisor is not None
        try:
            await self.node_supervisor.launch(node)
        except NodeDied as error:
            log.error("node %s could not be started again: %s", node.name, error)
            self.node_lost(node, str(error))
            return False
        return True

    def _pause(self, key: str, limits: RestartLimits, progressed: bool) -> float | None:
        """Seconds of back-off before the next restart; None beyond the restart limit."""
        history = self._history[key]
        if progressed:
            history.clear()
        now = self._clock.now()
        while history and history[0] < now - limits.within_seconds:
            history.popleft()
        if len(history) >= limits.max_restarts:
            return None
        history.append(now)
        doubled = limits.backoff_seconds * 2.0 ** (len(history) - 1)
        return min(doubled, limits.backoff_max_seconds) * self._random.uniform(0.5, 1.0)

    def _give_up(self, cell: AnyCell, crash: Crash | RemoteCrash | None, reason: str) -> None:
        cell.retire(f"{cell.name} {reason}")
        self._fail(ActorFailed(cell.name, reason), crash.error if crash is not None else None)

    def _fail(self, failure: ActorFailed, cause: BaseException | None) -> None:
        self.stopping = True
        failure.__cause__ = cause
        self._failed(failure)


def _often(limits: RestartLimits) -> str:
    return f"restarted {limits.max_restarts} times within {limits.within_seconds:g} s already"
