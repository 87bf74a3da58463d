"""The engine: the coordinator's event loop in a thread of its own, apart from the application's loop."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from actorq.actors import ActorDied, Reports, State, System, SystemStatistics
from actorq.actors.runtime.loop_waker import LoopWaker
from actorq.topology import Plan
from actorq.topology.schema import Backend

from .launchers import other_processes

log = logging.getLogger("actorq.launchers")

T = TypeVar("T")

LEAVE_SECONDS = 30.0
"""How long actors may block their loop after a stop before its thread is abandoned."""


class ThreadEngine:
    """Runs a plan's actors; started and called from the application's loop, on either back end.

    Neither loop blocks while the other is busy.
    """

    def __init__(
        self,
        plan: Plan,
        reports: Reports,
        *,
        backend: Backend,
        states: dict[str, State] | None = None,
        join_token: Path | None = None,
        tick: Callable[[], None],
        tick_seconds: float,
    ) -> None:
        """`join_token`: the file to write for joining hosts, if nodes run on them."""
        self._plan = plan
        self._reports = reports
        self._backend = backend
        self._states = states
        self._join_token = join_token
        self._tick, self._tick_seconds = tick, tick_seconds
        self.statistics: SystemStatistics | None = None
        """The newest statistics, replaced every `tick_seconds`; readable from any thread."""
        self.final_states: dict[str, State] = {}
        """The actors' states after an orderly end; empty if a crash ended the run."""
        # Called by the application.
        self._pending: set[_Call[Any]] = set()
        self._stopping, self._ended = anyio.Event(), anyio.Event()
        self._error: BaseException | None = None
        # Called by the actors.
        self._inside: LoopWaker | None = None
        self._system: System | None = None
        self._is_up = False

    async def run(self, started: Callable[[], None]) -> None:
        """Start the actors and return when they have stopped; call `started` when all have started.

        Raises the ActorFailed that ended them. Call it shielded from cancellation: `stop` ends it.
        """
        inside, outside = LoopWaker(), LoopWaker()
        self._inside, self._outside = inside, outside
        thread = Thread(target=self._live, args=(started,), name="actorq", daemon=True)
        thread.start()
        if self._stopping.is_set():
            self.stop()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(outside.serve)
                tasks.start_soon(self._abandon, thread)
                await self._ended.wait()
                tasks.cancel_scope.cancel()
        finally:
            outside.close()
        if isinstance(self._error, Exception):
            raise self._error
        if self._error is not None:  # such as a sys.exit in an actor, which must end the actors' loop only
            raise RuntimeError(f"{type(self._error).__name__} ended the actors' loop") from self._error
        thread.join()  # all its work is done

    def stop(self) -> None:
        """Ask the actors to stop in order, or abandon their start."""
        self._stopping.set()
        if self._inside is not None:
            self._inside.call_soon(self._stop_inside)

    async def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Call an async function on the actors' loop and return its result.

        Raises ActorDied once the run has ended, and what the function raises. Cancelled, the function is
        cancelled and not waited for.
        """
        if self._inside is None:
            raise RuntimeError("the run has not started")
        if self._ended.is_set():
            raise ActorDied("the run has ended")
        call = _Call(partial(function, *args), self._outside)
        self._pending.add(call)
        self._inside.call_soon(partial(self._begin, call))
        try:
            await call.done.wait()
        except BaseException:
            self._inside.call_soon(call.cancel)
            raise
        finally:
            self._pending.discard(call)
        return call.result()

    def _end(self, error: BaseException | None) -> None:
        """The actors' loop has ended: fail all pending calls."""
        self._error = error
        for call in self._pending:
            call.settle(ActorDied("the run has ended"))
        self._ended.set()

    async def _abandon(self, thread: Thread) -> None:
        """Abandon the thread of a loop that an actor blocks for good, and log where it is blocked."""
        await self._stopping.wait()
        await anyio.sleep(LEAVE_SECONDS)
        frame = sys._current_frames().get(thread.ident or 0)
        where = "".join(traceback.format_stack(frame, limit=3)) if frame is not None else ""
        log.error("the actors' thread is abandoned, %g s after the stop, in\n%s", LEAVE_SECONDS, where)
        self._end(TimeoutError(f"the actors still held their loop {LEAVE_SECONDS:g} s after the stop"))

    # In the actors' thread.

    def _live(self, started: Callable[[], None]) -> None:
        error: BaseException | None = None
        try:
            anyio.run(self._main, started, backend=self._backend)
        except BaseException as raised:
            error = raised
        assert self._inside is not None
        self._inside.close()
        self._outside.call_soon(partial(self._end, error))

    async def _main(self, started: Callable[[], None]) -> None:
        assert self._inside is not None
        self._stop = anyio.Event()
        error: Exception | None = None
        async with anyio.create_task_group() as self._calls:
            with anyio.CancelScope() as self._starting:
                self._calls.start_soon(self._inside.serve)
                try:
                    await self._lead(started)
                except Exception as raised:  # kept out of the task group, which would wrap it
                    error = raised
            self._calls.cancel_scope.cancel()
        if error is not None:
            raise error

    async def _lead(self, started: Callable[[], None]) -> None:
        nodes = other_processes(self._plan, backend=self._backend, join_token=self._join_token)
        async with nodes as elsewhere:
            await self._lead_system(started, elsewhere)

    async def _lead_system(self, started: Callable[[], None], elsewhere: dict[str, Any]) -> None:
        topology = self._plan.topology
        self._system = system = System(
            self._plan.specs,
            self._plan.groups,
            reports=self._reports,
            deterministic=topology.deterministic,
            seed=topology.seed,
            states=self._states,
            **elsewhere,
        )
        try:
            async with system:
                self._is_up = True
                self.statistics = system.statistics()
                self._outside.call_soon(started)
                await self._until_stopped(system)
                await self._take_final_states(system)
        finally:
            self.statistics = system.statistics()

    async def _until_stopped(self, system: System) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_ticking, system)
            await self._stop.wait()
            tasks.cancel_scope.cancel()

    async def _take_final_states(self, system: System) -> None:
        """Stop, and keep the final states, unless an actor crashed meanwhile."""
        crashes, failing = _crashes(system), system.supervisor.stopping
        await system.quiesce()
        whole = _crashes(system) == crashes and not failing
        await system.stop()
        if whole:
            self.final_states = system.final_states

    async def _keep_ticking(self, system: System) -> None:
        while True:
            self.statistics = system.statistics()
            await anyio.sleep(self._tick_seconds)
            self._tick()

    def _begin(self, call: _Call[Any]) -> None:
        call.begin(self._calls)

    def _stop_inside(self) -> None:
        self._stop.set()
        if not self._is_up:
            self._starting.cancel()

    def stop_now(self) -> None:
        """Stop, and run no more handlers. Called on the actors' loop."""
        if self._is_up:
            self.system.hold()
        self._stop.set()
        self._outside.call_soon(self._stopping.set)

    @property
    def system(self) -> System:
        """The running actors; use it on their loop only, by `call`."""
        if self._system is None:
            raise RuntimeError("the actors have not started")
        return self._system


def _crashes(system: System) -> int:
    return sum(actor.crashes for actor in system.statistics().actors)


class _Call(Generic[T]):
    """One call into the actors' loop, and its result."""

    def __init__(self, function: Callable[[], Awaitable[T]], back: LoopWaker) -> None:
        self.done = anyio.Event()
        self._function = function
        self._back = back
        self._error: Exception | None = None

    # On the actors' loop.

    def begin(self, tasks: TaskGroup) -> None:
        self._scope = anyio.CancelScope()
        tasks.start_soon(self._run)

    async def _run(self) -> None:
        error: Exception | None = None
        with self._scope:
            try:
                self._value = await self._function()
            except Exception as raised:
                error = raised
            self._back.call_soon(partial(self.settle, error))

    def cancel(self) -> None:
        self._scope.cancel()

    # On the application's loop.

    def settle(self, error: Exception | None) -> None:
        """Complete the call with this error, or with its value; only the first call of this has an effect."""
        if not self.done.is_set():
            self._error = error
            self.done.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value
