"""Launcher `process`: child processes of this machine, which end with the process that started them."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from types import TracebackType
from typing import Self

import anyio

from actorq.actors import Death, LogLayout, NodeDied
from actorq.launchers.launcher import NODE_EVENTS, NodeLauncher, StreamedNode
from actorq.launchers.node_setup import NodeSetup
from actorq.launchers.pickling import PicklingError
from actorq.launchers.shared_page import make_page, read_page

from .guarded_process import GuardedProcess

log = logging.getLogger("actorq.launchers")

LOOK_SECONDS = 0.5
"""How often a process is checked for having been stopped (SIGSTOP)."""

STOPPED_LOOKS = 3
"""Consecutive checks after which a stopped process counts as dead: within two seconds."""


class ProcessLauncher(NodeLauncher):
    """Launches nodes as child processes; their specs are sent through a pipe.

    They also end, in any case, with the thread that entered it.
    """

    async def __aenter__(self) -> Self:
        self._seen = set[str]()
        self._running = set[ProcessNode]()
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        for node in self._running:
            node.kill()
        return await super().__aexit__(kind, error, traceback)

    async def launch(self, setup: NodeSetup) -> ProcessNode:
        """See NodeLauncher."""
        node, specs = setup.node, {spec.name: spec for spec in setup.specs}
        page = make_page(LogLayout(specs, node).nbytes)
        try:
            process = await GuardedProcess.start(replace(setup, delivery_log_fd=page), NODE_EVENTS)
        except BaseException as error:
            os.close(page)
            if isinstance(error, PicklingError | OSError):
                raise NodeDied(str(error)) from error
            raise
        launched = ProcessNode(node, process, page)
        self.tasks.start_soon(self._serve, launched)
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
        # Not cancelled with the run, whose nodes must end in order.
        with anyio.CancelScope(shield=True):
            await node.serve()
        self._running.discard(node)


class ProcessNode(StreamedNode):
    """Handle of one started process."""

    def __init__(self, name: str, process: GuardedProcess, page: int) -> None:
        super().__init__(process.stream)
        self._name = name
        self._process = process
        self._page = page
        self._death: Death | None = None

    async def serve(self) -> None:
        """Carry commands, node events and output, and watch the process, until it has ended."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            await self._process.serve()
            tasks.cancel_scope.cancel()

    async def _watch(self) -> None:
        """Kill a process that has been stopped (SIGSTOP); one that computes for long is left alone."""
        looks = 0
        while looks < STOPPED_LOOKS:
            await anyio.sleep(LOOK_SECONDS)
            looks = looks + 1 if self._process.is_stopped() else 0
        log.error("node %s was stopped from outside (SIGSTOP) and is killed", self._name)
        self._process.kill()

    def kill(self) -> None:
        self._process.kill()

    async def ended(self) -> Death:
        how = await self._process.ended()
        if self._death is None:  # it may be called after aclose, too
            self._death = Death(f"{how}{self.failure}", read_page(self._page))
        return self._death

    async def aclose(self) -> None:
        """Shielded from cancellation."""
        self._process.kill()
        with anyio.CancelScope(shield=True):
            await self.ended()
            await self._process.aclose()
        if self._page >= 0:
            os.close(self._page)
            self._page = -1
