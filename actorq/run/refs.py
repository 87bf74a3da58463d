"""References to a run's actors for the embedding application, which has another event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

from actorq.actors import Group, Message, Ref, Request
from actorq.actors.ref import Everyone
from actorq.launchers.thread_engine import ThreadEngine

R = TypeVar("R")


class OutsideRef:
    """One actor of a run. Once the run has ended its methods raise ActorDied."""

    def __init__(self, name: str, engine: ThreadEngine) -> None:
        self.name = name
        self._engine = engine
        self._ref: Ref[Any] | None = None

    async def tell(self, message: Message) -> None:
        """As `Ref.tell`: it returns when the message is accepted. Cancelled, it may have been sent."""
        await self._engine.call(lambda: self.inside().tell(message))

    async def ask(self, request: Request[R], *, timeout: float | None = None) -> R:
        """As `Ref.ask`."""
        return await self._engine.call(lambda: self.inside().ask(request, timeout=timeout))

    def inside(self) -> Ref[Any]:
        """The actor's ref on the actors' loop: always the same object, since it counts messages in flight."""
        if self._ref is None:
            self._ref = self._engine.system.ref(self.name)
        return self._ref

    def __repr__(self) -> str:
        return f"<OutsideRef to {self.name}>"


class OutsideGroup(Sequence[OutsideRef]):
    """The members of an actor with a count, in order; chooses among them as `Group` does."""

    def __init__(self, members: Sequence[OutsideRef], engine: ThreadEngine) -> None:
        self._members = tuple(members)
        self._engine = engine
        self._group: Group[Any] = Group(cast(Any, self._members))

    def any(self) -> OutsideRef:
        """The members in turn."""
        return cast(OutsideRef, self._group.any())

    def by(self, key: object) -> OutsideRef:
        """The same member for the same key, as in `Group.by` within the run."""
        return cast(OutsideRef, self._group.by(key))

    def all(self) -> OutsideEveryone:
        """All members together."""
        return OutsideEveryone(self._members, self._engine)

    def __getitem__(self, index: Any) -> Any:
        return self._members[index]

    def __len__(self) -> int:
        return len(self._members)


class OutsideEveryone:
    """All members of a group, told or asked together."""

    def __init__(self, members: Sequence[OutsideRef], engine: ThreadEngine) -> None:
        self._members = members
        self._engine = engine

    async def tell(self, message: Message) -> None:
        """As `Everyone.tell`. Cancelled, any of the members may have it."""
        await self._engine.call(lambda: self._inside().tell(message))

    async def ask(self, request: Request[R], *, timeout: float | None = None) -> list[R]:
        """As `Everyone.ask`."""
        return await self._engine.call(lambda: self._inside().ask(request, timeout=timeout))

    def _inside(self) -> Everyone[Any]:
        return Group([member.inside() for member in self._members]).all()
