"""Recorder of events, for tests that wait for them instead of sleeping."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar

import anyio

from actorq.actors import Actor, Message, handles

E = TypeVar("E")


class Record(Generic[E]):
    """List of entries that tasks of one event loop can wait for."""

    def __init__(self) -> None:
        self.entries: list[E] = []
        self._waiting: list[tuple[Callable[[], bool], anyio.Event]] = []

    def add(self, entry: E) -> None:
        self.entries.append(entry)
        for met, event in self._waiting:
            if met():
                event.set()

    async def reaches(self, count: int) -> list[E]:
        """Wait for at least `count` entries; returns all."""
        await self._until(lambda: len(self.entries) >= count)
        return self.entries

    async def has(self, entry: E) -> None:
        """Wait for an entry."""
        await self._until(lambda: entry in self.entries)

    async def _until(self, met: Callable[[], bool]) -> None:
        """Cancelled, it leaves no waiter behind."""
        if met():
            return
        waiting = (met, anyio.Event())
        self._waiting.append(waiting)
        try:
            await waiting[1].wait()
        finally:
            self._waiting.remove(waiting)


def recorder(record: Record[Any], *messages: type[Message]) -> type[Actor]:
    """An actor class that handles these messages by recording them."""

    async def note(self: Actor, message: Any) -> None:
        record.add(message)

    note.__annotations__["message"] = reduce(or_, messages)
    return type("Recorder", (Actor,), {"note": handles(note)})
