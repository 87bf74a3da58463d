"""The scheduler interface for waiting, sleeping and starting tasks, and its concurrent implementation.

The deterministic implementation is in deterministic_scheduler.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, ClassVar, Protocol, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

current_actor: ContextVar[str] = ContextVar("current_actor", default="")
"""Name of the actor whose code is running; added to log records."""

V = TypeVar("V")
Args = TypeVarTuple("Args")


class Event(Protocol):
    """An event that is set once; waiting for a set event returns at once."""

    def set(self) -> Any: ...
    def is_set(self) -> bool: ...
    async def wait(self) -> Any: ...


class Scheduler(Protocol):
    """Interface through which all tasks of actors wait, sleep and start."""

    deterministic: ClassVar[bool]

    def begin(self) -> None:
        """Called on the event loop before any other method."""
        ...

    def event(self) -> Event: ...
    def now(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...
    async def wait(self, event: Event, timeout: float | None) -> bool:
        """Wait for the event; False if `timeout` seconds passed first."""
        ...

    async def pass_turn(self) -> None:
        """Yield to other tasks."""
        ...

    async def in_thread(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V: ...
    def spawn(
        self, tasks: TaskGroup, name: str, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any
    ) -> None:
        """Start a task under the name of its owner, usually an actor."""
        ...

    def cancel(self, scope: anyio.CancelScope, name: str) -> None:
        """Cancel a scope that contains tasks of this owner."""
        ...

    async def join(self, name: str) -> None:
        """Return when the calling task is the owner's last one."""
        ...

    async def take_part(self, name: str, function: Callable[[], Awaitable[V]]) -> V:
        """Run a function in the calling task, in the scheduler's order."""
        ...


class ConcurrentScheduler:
    """Scheduler that leaves the order of tasks to the event loop, by anyio."""

    deterministic: ClassVar[bool] = False

    def __init__(self) -> None:
        self.event: Callable[[], Event] = anyio.Event

    def begin(self) -> None:
        # The back end's own event class: anyio.Event looks the back end up at each creation and initialises
        # twice.
        self.event = type(anyio.Event())

    def now(self) -> float:
        return anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def wait(self, event: Event, timeout: float | None) -> bool:
        if timeout is None:
            await event.wait()
            return True
        with anyio.move_on_after(timeout):
            await event.wait()
        return event.is_set()

    async def pass_turn(self) -> None:
        await checkpoint()

    async def in_thread(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V:
        return await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=True)

    def spawn(
        self, tasks: TaskGroup, name: str, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any
    ) -> None:
        tasks.start_soon(function, *args, name=name)

    def cancel(self, scope: anyio.CancelScope, name: str) -> None:
        scope.cancel()

    async def join(self, name: str) -> None:
        pass  # leaving a task group waits for its tasks

    async def take_part(self, name: str, function: Callable[[], Awaitable[V]]) -> V:
        return await function()
