"""Nodes as processes of this machine: started, watched, and ended with the process that started them."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Literal, Self, cast

import anyio

from actorq.actors import ActorSpec, Death, LogLayout, Membership, NodeDied, Peer, Transport
from actorq.actors.supervision.control_messages import Commands, Listening, NodeEvents
from actorq.launchers.log_forwarding import Logged, relog
from actorq.launchers.node_setup import Failed, NodeSetup
from actorq.launchers.pickling import PicklingError
from actorq.launchers.shared_page import make_page, read_page

from .guarded_process import GuardedProcess

log = logging.getLogger("actorq.launchers")

LOOK_SECONDS = 0.5
"""How often a process is looked at that could have been stopped."""

STOPPED_LOOKS = 3
"""So many times in a row before it counts as dead: within two seconds."""


class ProcessLauncher:
    """Launches nodes. Use it as an async context manager: when it is left none of its processes is left.

    They also end with the thread that entered it, whatever ends that.
    """

    def __init__(
        self,
        specs: Sequence[ActorSpec],
        nodes: Sequence[str],
        *,
        transport: Callable[[], Transport],
        membership: Membership,
        folder: str,
        backend: Literal["asyncio", "trio"],
    ) -> None:
        """`nodes`: all that will be launched; they share the cores with this process."""
        self._specs = {spec.name: spec for spec in specs}
        self._threads = max(1, len(os.sched_getaffinity(0)) // (1 + len(nodes)))
        self._transport = transport
        self._membership = membership
        self._folder = folder
        self._backend: Literal["asyncio", "trio"] = backend
        self._seen = set[str]()
        self._running = set[ProcessNode]()

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        for node in self._running:
            node.kill()
        self._tasks.cancel_scope.cancel()
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return await self._tasks.__aexit__(kind, error, traceback)
        await self._tasks.__aexit__(None, None, None)  # others stay ungrouped
        return None

    async def launch(self, node: str, incarnation: int) -> ProcessNode:
        """See Launcher."""
        page = make_page(LogLayout(self._specs, node).nbytes)
        try:
            process = await GuardedProcess.start(
                self._setup(node, incarnation, page), Logged | Failed | NodeEvents
            )
        except BaseException as error:
            os.close(page)
            if isinstance(error, PicklingError | OSError):
                raise NodeDied(str(error)) from error
            raise
        launched = ProcessNode(node, process, page)
        self._tasks.start_soon(self._serve, launched)
        try:
            await launched.listening()
        except BaseException:
            await launched.aclose()
            raise
        log.info("node %s is %sprocess %d", node, "back, as " if node in self._seen else "", process.pid)
        self._seen.add(node)
        return launched

    async def _serve(self, node: ProcessNode) -> None:
        self._running.add(node)
        # Not cancelled with the run, which needs its nodes to end in order.
        with anyio.CancelScope(shield=True):
            await node.serve()
        self._running.discard(node)

    def _setup(self, node: str, incarnation: int, page: int) -> NodeSetup:
        return NodeSetup(
            node=node,
            incarnation=incarnation,
            run=self._membership.run,
            secret=self._membership.secret,
            folder=self._folder,
            transport=self._transport,
            backend=self._backend,
            specs=tuple(self._specs.values()),
            threads=self._threads,
            delivery_log_fd=page,
            tls=self._membership.tls,
            addresses=self._membership.addresses,
        )


class ProcessNode:
    """The handle of one started process."""

    peer: Peer

    def __init__(self, name: str, process: GuardedProcess, page: int) -> None:
        self._name = name
        self._process = process
        self._page = page
        self._why = ""
        self._death: Death | None = None

    def post(self, order: Commands) -> None:
        self._process.stream.send_soon(order)

    async def serve(self) -> None:
        """Carry orders and output, and watch the process, until it has ended."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            await self._process.serve()
            tasks.cancel_scope.cancel()

    async def _watch(self) -> None:
        """End a process that has been stopped: it will not say that it is gone. One that computes lives."""
        looks = 0
        while looks < STOPPED_LOOKS:
            await anyio.sleep(LOOK_SECONDS)
            looks = looks + 1 if self._process.is_stopped() else 0
        log.error("node %s was stopped from outside (SIGSTOP): it is ended", self._name)
        self._process.kill()

    async def listening(self) -> None:
        """Return when it can be reached. Raises NodeDied."""
        async for node_event in self:
            if isinstance(node_event, Listening):
                self.peer = node_event.peer
                return
        raise NodeDied(f"did not start: {await self._process.ended()}{self._why}")

    def node_events(self) -> AsyncIterator[NodeEvents]:
        """What the node tells, its log records passed on to this process's logging."""
        return self

    def __aiter__(self) -> AsyncIterator[NodeEvents]:
        return self  # no generator: one that is left half read has to be closed

    async def __anext__(self) -> NodeEvents:
        async for node_event in self._process.stream:
            if isinstance(node_event, Logged):
                relog(node_event)
            elif isinstance(node_event, Failed):
                self._why += f"\n{node_event.traceback}"
            else:
                return cast(NodeEvents, node_event)
        raise StopAsyncIteration

    def kill(self) -> None:
        self._process.kill()

    async def ended(self) -> Death:
        how = await self._process.ended()
        if self._death is None:  # for whoever asks once it is closed, too
            self._death = Death(f"{how}{self._why}", read_page(self._page))
        return self._death

    async def aclose(self) -> None:
        """Not cut short."""
        self._process.kill()
        with anyio.CancelScope(shield=True):
            await self.ended()
            await self._process.aclose()
        if self._page >= 0:
            os.close(self._page)
            self._page = -1
