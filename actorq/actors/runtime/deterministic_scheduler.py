"""Deterministic scheduler with virtual time: one task runs at a time, in a seeded order.

Event loops order their tasks arbitrarily (trio shuffles them), so the order is made here: a task of an actor
runs until it waits, and a seeded generator picks the next one among the runnable tasks. Time is virtual: when
no task is runnable it jumps to the next deadline.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from enum import Enum, auto
from functools import partial
from typing import Any, ClassVar, TypeVar, TypeVarTuple, Unpack, cast

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled

from .scheduler import Event

V = TypeVar("V")
Args = TypeVarTuple("Args")


class _Turn(Enum):
    READY = auto()
    MINE = auto()
    PARKED = auto()


class _Task:
    """One scheduled task."""

    __slots__ = ("go", "id", "name", "turn")

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = 0
        self.go = anyio.Event()
        self.turn = _Turn.PARKED


_me: ContextVar[_Task | None] = ContextVar("_me", default=None)


class DeterministicEvent:
    """An event whose waiting tasks become runnable in the scheduler's order. Set it from the run's event loop
    only.
    """

    __slots__ = ("_outside", "_scheduler", "_set", "waiters")

    def __init__(self, scheduler: DeterministicScheduler) -> None:
        self._scheduler = scheduler
        self._outside: anyio.Event | None = None
        self._set = False
        self.waiters: list[_Task] = []

    def set(self) -> None:
        if not self._set:
            self._set = True
            for task in self.waiters:
                self._scheduler.make_ready(task)
            if self._outside is not None:
                self._outside.set()

    def is_set(self) -> bool:
        return self._set

    def awaited(self) -> bool:
        return bool(self.waiters) or self._outside is not None

    async def wait(self) -> None:
        task = _me.get()
        if task is not None:
            if not self._set:
                await self._scheduler.park(task, self)
        elif not self._set:  # a task outside of the scheduler
            self._outside = self._outside or anyio.Event()
            await self._outside.wait()


class DeterministicScheduler:
    """Runs one task at a time, in an order that depends on the seed alone."""

    deterministic: ClassVar[bool] = True

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._ready: list[_Task] = []
        self._running: _Task | None = None
        self._deadlines: list[tuple[float, int, DeterministicEvent]] = []
        self._deadlines_made = 0
        self._members: dict[str, list[_Task]] = {}
        self._joins: dict[str, DeterministicEvent] = {}
        self._now = 0.0
        self._held = False

    # The Scheduler interface.

    def begin(self) -> None:
        pass

    def event(self) -> Event:
        return DeterministicEvent(self)

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        await self._deadline(seconds).wait()

    async def wait(self, event: Event, timeout: float | None) -> bool:
        task = _me.get()
        if timeout is None or task is None or event.is_set():
            await event.wait()
        else:
            await self.park(task, cast(DeterministicEvent, event), self._deadline(timeout))
        return event.is_set()

    async def pass_turn(self) -> None:
        task = _me.get()
        if task is not None:
            await self.park(task, ready=True)

    async def in_thread(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V:
        return function(*args)

    def spawn(
        self, tasks: TaskGroup, name: str, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any
    ) -> None:
        tasks.start_soon(self._take_part, self._enlist(name), partial(function, *args), name=name)

    def cancel(self, scope: anyio.CancelScope, name: str) -> None:
        """Cancel a scope, and make all tasks of that owner runnable, since they may be inside it.

        They are made runnable here, not when the event loop delivers the cancellation in an order of its own.
        """
        scope.cancel()
        for task in self._members.get(name, ()):
            self.make_ready(task)

    async def join(self, name: str) -> None:
        while len(self._members[name]) > 1:
            self._joins[name] = DeterministicEvent(self)
            await self._joins[name].wait()

    async def take_part(self, name: str, function: Callable[[], Awaitable[V]]) -> V:
        if _me.get() is not None:
            return await function()
        me = self._enlist(name)
        before = _me.set(me)
        try:
            return await self._take_part(me, function)
        finally:
            _me.reset(before)

    # Scheduling.

    def hold(self) -> None:
        """Schedule no further steps, once the running task waits, until `go_on`."""
        self._held = True

    def go_on(self) -> None:
        self._held = False
        self._next()

    def make_ready(self, task: _Task) -> None:
        if task.turn is _Turn.PARKED:
            task.turn = _Turn.READY
            self._ready.append(task)
            self._next()

    async def park(self, task: _Task, *events: DeterministicEvent, ready: bool = False) -> None:
        """Suspend the calling task until one of the events is set; a cancelled task runs once more, to clean
        up.
        """
        if task.id != anyio.get_current_task().id:
            raise RuntimeError(
                f"a task of {task.name} waits that takes no turns: in a deterministic run, start tasks with "
                "Actor.start_soon"
            )
        await checkpoint_if_cancelled()  # cancelled here, while it is the running task
        for event in events:
            event.waiters.append(task)
        try:
            while True:
                task.turn = _Turn.PARKED
                self._running = None
                if ready:
                    self.make_ready(task)
                else:
                    self._next()
                await self._turn_of(task)
                if ready or any(event.is_set() for event in events):
                    return
        finally:
            for event in events:
                event.waiters.remove(task)

    async def _turn_of(self, task: _Task) -> None:
        try:
            await task.go.wait()
        except BaseException:
            self.make_ready(task)
            with anyio.CancelScope(shield=True):
                await task.go.wait()
            raise
        finally:
            task.go = anyio.Event()

    def _enlist(self, name: str) -> _Task:
        task = _Task(name)
        self._members.setdefault(name, []).append(task)
        self.make_ready(task)
        return task

    async def _take_part(self, task: _Task, function: Callable[[], Awaitable[V]]) -> V:
        _me.set(task)
        task.id = anyio.get_current_task().id
        with anyio.CancelScope(shield=True):  # it is scheduled, and has to run to leave the schedule
            await task.go.wait()
        task.go = anyio.Event()
        try:
            return await function()
        finally:
            self._leave(task)

    def _leave(self, task: _Task) -> None:
        mates = self._members[task.name]
        mates.remove(task)
        if len(mates) == 1 and task.name in self._joins:
            self._joins.pop(task.name).set()
        if not mates:
            del self._members[task.name]
        self._running = None
        self._next()

    def _next(self) -> None:
        if self._held or self._running is not None:
            return
        if self._ready:
            task = self._ready.pop(self._random.randrange(len(self._ready)))
            task.turn = _Turn.MINE
            self._running = task
            task.go.set()
        else:
            self._jump()

    def _jump(self) -> None:
        """No task is runnable: advance virtual time to the next deadline."""
        while self._deadlines and self._running is None:
            at, _, event = heapq.heappop(self._deadlines)
            if event.awaited():
                self._now = at
                event.set()

    def _deadline(self, seconds: float) -> DeterministicEvent:
        event = DeterministicEvent(self)
        self._deadlines_made += 1
        heapq.heappush(self._deadlines, (self._now + max(seconds, 0.0), self._deadlines_made, event))
        return event
