"""All nodes on one event loop, in a thread of its own: nothing computes on the loop of the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeVar

import anyio
import anyio.to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from actorq.actors import Reports, State, System, SystemStatistics
from actorq.topology import Plan

T = TypeVar("T")

Backend = Literal["asyncio", "trio"]


class Here:
    """Runs a plan's actors; started and called from the application's loop, on whichever back end."""

    def __init__(
        self,
        plan: Plan,
        reports: Reports,
        *,
        backend: Backend,
        states: dict[str, State] | None = None,
        tick: Callable[[], None],
        tick_seconds: float,
    ) -> None:
        self._plan = plan
        self._reports = reports
        self._backend = backend
        self._states = states
        self._tick, self._tick_seconds = tick, tick_seconds
        self._system: System | None = None
        self._started: Future[None] = Future()
        self._ended: Future[None] = Future()
        self.statistics: SystemStatistics | None = None
        """The newest readings, replaced every `tick_seconds`; for any thread."""
        self.final_states: dict[str, State] = {}

    async def start(self) -> None:
        """Return when all actors have started. Raises the ActorFailed of one that can't.

        Cancelled, the actors are stopped; `close` must still be called.
        """
        loop: AbstractContextManager[BlockingPortal] = start_blocking_portal(self._backend, name="actorq")
        self._loop = loop
        self._portal = loop.__enter__()
        self._stop = self._portal.call(anyio.Event)
        self._ended = self._portal.start_task_soon(self._main)
        self._ended.add_done_callback(self._note_end)
        await _result(self._started)

    async def _main(self) -> None:
        """Runs on the actors' loop."""
        topology = self._plan.topology
        async with System(
            self._plan.specs,
            self._plan.groups,
            reports=self._reports,
            deterministic=topology.deterministic,
            seed=topology.seed,
            states=self._states,
        ) as system:
            self._system = system
            self._started.set_result(None)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._keep_ticking, system)
                    await self._stop.wait()
                    tasks.cancel_scope.cancel()
            finally:
                with anyio.CancelScope(shield=True):
                    await system.stop()
                self.final_states = system.final_states
                self.statistics = system.statistics()

    async def _keep_ticking(self, system: System) -> None:
        while True:
            self.statistics = system.statistics()
            await anyio.sleep(self._tick_seconds)
            self._tick()

    def _note_end(self, ended: Future[None]) -> None:
        if not self._started.done():
            error = ended.exception() if not ended.cancelled() else None
            self._started.set_exception(error or RuntimeError("the actors' loop was cancelled"))

    def stop_now(self) -> None:
        """Called on the actors' loop: give no more turns, and stop."""
        if self._system is not None:
            self._system.hold()
        self._stop.set()

    async def wait(self) -> None:
        """Return when the actors have stopped. Raises ActorFailed if that is why.

        Cancelled, the actors go on.
        """
        await _result(self._ended)

    def stop(self) -> None:
        """Ask the actors to stop, in order; `wait` tells when they have."""
        if not self._ended.done():
            self._portal.start_task_soon(self._set_stop)

    async def _set_stop(self) -> None:
        self._stop.set()

    async def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an async function on the actors' loop and return its result. Cancelled, it is cancelled."""
        return await _result(self._portal.start_task_soon(function, *args))

    @property
    def system(self) -> System:
        """The running actors; use it on their loop only, by `call`."""
        if self._system is None:
            raise RuntimeError("the actors have not started")
        return self._system

    async def close(self) -> None:
        """End the loop and its thread, and with it actors that never came to start."""
        self._ended.cancel()
        await anyio.to_thread.run_sync(self._loop.__exit__, None, None, None)


async def _result(future: Future[T]) -> T:
    """Wait for another thread's result without holding this loop."""
    try:
        return await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True)
    except BaseException:
        future.cancel()
        raise
