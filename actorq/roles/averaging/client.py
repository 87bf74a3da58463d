"""A learner's end of a tree of learners: every so many updates its parameters meet those of others."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from msgspec import Meta
from numpy.typing import NDArray

from actorq.actors import Actor, Ref, Refused
from actorq.roles.common.retry import ask_its_incarnations
from actorq.roles.replay.rate_limit_gate import STOPPING

from .messages import JoinAveraging, Synchronize, Synchronized

MeetEveryUpdates = Annotated[
    int, Meta(ge=1, description="updates between two meetings with the other learners, at `root`")
]


class AveragingClient:
    """Brings a learner's parameters to the root; without a root it does nothing.

    What is the learner's own stays so: target network and optimizer. The root's death costs a wait: its next
    life is asked. When the run stops, it waits for the learner's loop to be ended.
    """

    def __init__(
        self, actor: Actor, root: Ref[JoinAveraging | Synchronize] | None, every_updates: int
    ) -> None:
        self._actor, self._root, self._every = actor, root, every_updates
        self._updates = 0
        """Since the last meeting."""

    @property
    def has_server(self) -> bool:
        return self._root is not None

    async def join(self, *, learning: bool) -> NDArray[Any] | None:
        """The centre [size], read-only, to begin with; None without a root.

        Once at the start of a life, for whoever explores meanwhile, and once when the first batch is there
        (`learning`): until then nobody waits for this learner.
        """
        if self._root is None:
            return None
        self._updates = 0
        return await self._ask(JoinAveraging(self._actor.name, self._actor.restarts, learning))

    def note_update(self) -> bool:
        """Call after each update; says whether it is time to `meet`."""
        self._updates += 1
        return self._root is not None and self._updates >= self._every

    async def meet(self, parameters: NDArray[Any]) -> NDArray[Any]:
        """What to go on with instead of `parameters` [size], which are given away; read-only.

        Raises Refused for NaN and infinite numbers. Cancelled, the meeting may have been held nonetheless.
        """
        began = self._actor.now()
        meet = Synchronize(self._actor.name, self._actor.restarts, self._updates, parameters)
        met = await self._ask(meet)
        self._updates = 0
        self._actor.observe("meeting_seconds", self._actor.now() - began)
        return met

    async def _ask(self, request: JoinAveraging | Synchronize) -> NDArray[Any]:
        assert self._root is not None
        try:
            met: Synchronized = await ask_its_incarnations(
                partial(self._root.ask, request), self._actor.sleep
            )
        except Refused as refusal:
            if refusal.reason == STOPPING:
                await self._actor.event().wait()
            raise
        return met.parameters
