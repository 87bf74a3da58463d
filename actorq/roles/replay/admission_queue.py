"""Waiting in line for the replay's rate limiter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from actorq.actors.runtime.scheduler import Event

T = TypeVar("T")


class _Admission(Generic[T]):
    def __init__(self, count: int, act: Callable[[], T], event: Event) -> None:
        self.count = count
        self.act = act
        self.event = event
        self.result: T | None = None
        self.error: Exception | None = None


class AdmissionQueue:
    """Lets acts through in the order they came, none before it may: nobody starves.

    An act is done at the moment it is let through, by whoever made room for it.
    """

    def __init__(self, may_pass: Callable[[int], bool], new_event: Callable[[], Event]) -> None:
        self._may_pass = may_pass
        self._new_event = new_event
        self._waiting: deque[_Admission[Any]] = deque()

    @property
    def first(self) -> int:
        """The count of whoever is first in line; 0 if nobody is."""
        return self._waiting[0].count if self._waiting else 0

    async def pass_through(self, count: int, act: Callable[[], T]) -> T:
        """Do `act` once `count` may pass, and return its result. Cancelled in line, it is not done."""
        if not self._waiting and self._may_pass(count):
            return act()
        waiter = _Admission(count, act, self._new_event())
        self._waiting.append(waiter)
        try:
            await waiter.event.wait()
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        if waiter.error is not None:
            raise waiter.error
        return cast(T, waiter.result)

    def advance(self) -> bool:
        """Let through whoever may pass now; says whether anyone did."""
        moved = False
        while self._waiting and self._may_pass(self._waiting[0].count):
            waiter = self._waiting.popleft()
            try:
                waiter.result = waiter.act()
            except Exception as error:
                waiter.error = error
            waiter.event.set()
            moved = True
        return moved

    def turn_back(self, error: Exception) -> None:
        """Whoever waits gets the error."""
        while self._waiting:
            waiter = self._waiting.popleft()
            waiter.error = error
            waiter.event.set()
