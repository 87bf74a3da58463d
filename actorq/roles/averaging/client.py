"""Client of the averaging server: joins and synchronizes a learner's parameters."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta
from numpy.typing import NDArray

from actorq.actors import Actor, Ref, Stopping

from .messages import JoinAveraging, Synchronize, Synchronized

SynchronizeEveryUpdates = Annotated[
    int, Meta(ge=1, description="updates between two synchronizations with the other learners, at `root`")
]


class AveragingClient:
    """Synchronizes a learner's parameters with the averaging server `root`; without a root it does nothing.

    Target network and optimizer stay the learner's own. Requests are repeated over restarts of the server.
    When the run stops, it waits to be cancelled.
    """

    def __init__(
        self, actor: Actor, root: Ref[JoinAveraging | Synchronize] | None, every_updates: int
    ) -> None:
        self._actor, self._root, self._every = actor, root, every_updates
        self._updates = 0
        """Updates since the last synchronization."""

    @property
    def has_server(self) -> bool:
        return self._root is not None

    async def join(self, *, learning: bool) -> NDArray[Any] | None:
        """The center [size] to start from, read-only; None without a root.

        Called once at the start, so that explorers have weights, and once when the first batch is there
        (`learning`): until then no other learner waits for this one.
        """
        if self._root is None:
            return None
        self._updates = 0
        return await self._ask(JoinAveraging(self._actor.name, self._actor.restarts, learning))

    def note_update(self) -> bool:
        """Count an update; returns whether it is time to `synchronize`."""
        self._updates += 1
        return self._root is not None and self._updates >= self._every

    async def synchronize(self, parameters: NDArray[Any]) -> NDArray[Any]:
        """The parameters [size] to continue with, read-only; `parameters` [size] are given away.

        Raises Refused for NaN and infinite numbers. When cancelled, the server may have used them already.
        """
        began = self._actor.now()
        request = Synchronize(self._actor.name, self._actor.restarts, self._updates, parameters)
        averaged = await self._ask(request)
        self._updates = 0
        self._actor.observe("meeting_seconds", self._actor.now() - began)
        return averaged

    async def _ask(self, request: JoinAveraging | Synchronize) -> NDArray[Any]:
        assert self._root is not None
        try:
            reply: Synchronized = await self._root.ask(request, retry=True)
        except Stopping:
            await self._actor.event().wait()
            raise
        return reply.parameters
