"""Reaching a run's actors from the application outside, which is on another event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from actorq.actors import Message, Request
from actorq.engines.here import Here

R = TypeVar("R")


class OutsideRef:
    """One actor of a run."""

    def __init__(self, name: str, engine: Here) -> None:
        self.name = name
        self._engine = engine

    async def tell(self, message: Message) -> None:
        """As `Ref.tell`: it returns when the message is accepted."""
        await self._engine.call(self._ref().tell, message)

    async def ask(self, request: Request[R], *, timeout: float | None = None) -> R:
        """As `Ref.ask`."""

        async def ask() -> R:
            reply: R = await self._ref().ask(request, timeout=timeout)
            return reply

        return await self._engine.call(ask)

    def _ref(self) -> Any:
        return self._engine.system.ref(self.name)

    def __repr__(self) -> str:
        return f"<OutsideRef to {self.name}>"


class OutsideGroup(Sequence[OutsideRef]):
    """The members of an actor with a count, in order."""

    def __init__(self, members: Sequence[OutsideRef]) -> None:
        self._members = tuple(members)

    def __getitem__(self, index: Any) -> Any:
        return self._members[index]

    def __len__(self) -> int:
        return len(self._members)
