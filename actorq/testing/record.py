"""What happened, in order: tests wait for it instead of sleeping."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar

import anyio

from actorq.actors import Actor, Message, handles

E = TypeVar("E")


class Record(Generic[E]):
    """A list that can be waited for; everything on one event loop."""

    def __init__(self) -> None:
        self.entries: list[E] = []
        self._waiting: list[tuple[Callable[[], bool], anyio.Event]] = []

    def add(self, entry: E) -> None:
        self.entries.append(entry)
        for met, event in self._waiting:
            if met():
                event.set()

    async def reaches(self, count: int) -> list[E]:
        """The entries, when there are at least so many."""
        await self._until(lambda: len(self.entries) >= count)
        return self.entries

    async def has(self, entry: E) -> None:
        """Return when the entry is there."""
        await self._until(lambda: entry in self.entries)

    async def _until(self, met: Callable[[], bool]) -> None:
        """Cancelled, it leaves nothing behind."""
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
