"""Node membership: launches node processes, detects their exit, and tells the coordinator, other nodes and
transport.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import anyio
from anyio.abc import TaskGroup

from actorq.actors.errors import NodeFailed
from actorq.actors.runtime.local import LocalActors
from actorq.actors.wire.node_incarnation import new_incarnation

from . import control_messages as commands
from .remote_node import Launcher, NodeDied, RemoteNode

log = logging.getLogger("actorq.actors")

LEAVE_SECONDS = 0.5
"""Time that a node process gets to exit by itself, in addition to the actors' stopping time."""


class NodeSupervisor:
    """Keeps the coordinator, the nodes and their transports consistent about which nodes are up."""

    def __init__(
        self,
        nodes: Iterable[RemoteNode],
        local: LocalActors,
        launcher: Launcher | None,
        lost: Callable[[RemoteNode, str], None],
    ) -> None:
        self._nodes = list(nodes)
        self._local = local
        self._launcher = launcher
        self._lost = lost
        self._retired: dict[str, str] = {}
        self._watches: dict[str, anyio.CancelScope] = {}
        self.task_group: TaskGroup | None = None

    async def launch_all(self) -> None:
        """Launch all nodes concurrently. Raises NodeFailed if one can't be started."""
        failure: NodeFailed | None = None

        async def launch(node: RemoteNode) -> None:
            nonlocal failure
            try:
                await self.launch(node)
            except NodeDied as error:
                failure = failure or NodeFailed(node.name, str(error))
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for node in self._nodes:
                tasks.start_soon(launch, node)
        if failure is not None:
            raise failure

    async def launch(self, node: RemoteNode) -> None:
        """Launch the node's process and connect it with all other nodes. Raises NodeDied."""
        assert self._launcher is not None
        assert self.task_group is not None
        handle = await self._launcher.launch(node.name, new_incarnation(node.starts))
        node.launched(handle)
        others = [other for other in self._nodes if other.handle is not None and other is not node]
        known = [other.handle.peer for other in others if other.handle is not None]
        node.post(commands.PeerUp((*self._local.peers(), *known)))
        for name, reason in self._retired.items():
            node.post(commands.PeerDown(name, None, reason, for_good=True))
        if ended := self._retired_actors():
            node.post(commands.ActorsDown(ended))
        for cell in node.cells.values():
            cell.launched()
        self._local.peer_up([handle.peer])
        for other in others:
            other.post(commands.PeerUp((handle.peer,)))
        self.task_group.start_soon(self._watch, node)

    async def _watch(self, node: RemoteNode) -> None:
        """Watch the node until its process has ended; cancelled, the process is killed."""
        with anyio.CancelScope() as self._watches[node.name]:
            await self._see_end(node)

    async def _see_end(self, node: RemoteNode) -> None:
        handle = node.handle
        assert handle is not None
        try:
            death = await node.listen()
        except BaseException:
            node.lost("its events are no longer read")
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await handle.aclose()
        if node.leaving:
            node.lost("it has left")
            return
        log.error("node %s %s", node.name, death.reason)
        reason = f"node {node.name} {death.reason}"
        node.lost(death.reason)
        self._local.peer_down(node.name, death.page, reason, for_good=False)
        for other in self._nodes:
            other.post(commands.PeerDown(node.name, death.page, reason))
        self._report_ended({cell.name: cell.restarts for cell in node.cells.values() if cell.started})
        self._lost(node, death.reason)

    def _report_ended(self, ended: dict[str, int]) -> None:
        self._local.actors_down(ended)
        for other in self._nodes:
            other.post(commands.ActorsDown(ended))

    def _retired_actors(self) -> dict[str, int]:
        """The last incarnations of retired actors; a new process has missed their ends."""
        retired = {cell.name: cell.restarts for cell in self._local.cells.values() if cell.retired}
        for node in self._nodes:
            retired |= {cell.name: cell.restarts for cell in node.cells.values() if cell.retired}
        return retired

    def retire(self, node: RemoteNode, reason: str) -> None:
        """Retire the node: it is not launched again."""
        self._retired[node.name] = reason
        self._local.peer_down(node.name, None, reason, for_good=True)
        for other in self._nodes:
            other.post(commands.PeerDown(node.name, None, reason, for_good=True))

    def begin_all(self) -> None:
        """All actors have started."""
        for node in self._nodes:
            node.post(commands.Begin())

    def stop_runs(self) -> None:
        for node in self._nodes:
            node.post(commands.StopRuns())
            if node.handle is None:
                self.retire(node, f"node {node.name} was down when the run stopped")

    async def quiet(self) -> list[int]:
        return [await node.quiet() for node in self._nodes]

    async def end_silent(self, seconds: float) -> None:
        """Kill nodes that don't answer the health check in time: they would keep the others from stopping."""
        async with anyio.create_task_group() as tasks:
            for node in self._nodes:
                if node.handle is not None:
                    tasks.start_soon(self._end_if_silent, node, seconds)

    async def _end_if_silent(self, node: RemoteNode, seconds: float) -> None:
        with anyio.move_on_after(seconds) as scope:
            await node.request(commands.Answer)
        if scope.cancelled_caught:
            log.warning("stopping: node %s does not answer and is killed", node.name)
            node.leaving = True
            self._watches[node.name].cancel()
            self.retire(node, f"node {node.name} did not answer when the run stopped")

    async def dismiss(self, deadline: float) -> None:
        """Let all processes end; those that don't in time are killed by their watchers."""
        for node in self._nodes:
            node.leaving = True
            node.post(commands.LeaveRun())
        limit = max(deadline, anyio.current_time() + LEAVE_SECONDS)
        for node in self._nodes:
            if node.handle is not None:
                with anyio.CancelScope(deadline=limit):
                    await node.handle.ended()
