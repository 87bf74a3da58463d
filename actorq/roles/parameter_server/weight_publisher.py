"""Whole weights of a parameter server, for those who only act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from numpy.typing import NDArray

from actorq.actors import Actor, ActorDied, Group, Refused, Topic
from actorq.roles.replay.messages import Weights
from actorq.roles.replay.rate_limit_gate import STOPPING

from .messages import Fetch, Pulled
from .pending import NOBODY


class WeightPublisher:
    """Reads the newest version from the shards whenever it is due, and publishes it."""

    def __init__(
        self,
        actor: Actor,
        servers: Group[Fetch],
        weights: Topic[Weights],
        pull: Callable[[], Awaitable[Pulled]],
    ) -> None:
        """`pull` has the newest version kept; it raises Refused when the run stops."""
        self._actor, self._servers, self._weights, self._pull = actor, servers, weights, pull
        self._due = actor.event()

    def note_due(self) -> None:
        self._due.set()

    async def run(self, initial: NDArray[Any]) -> None:
        """The first version at once, others as they are due. `initial` has the vector's size and dtype."""
        import torch

        from .weights_reader import WeightsReader

        reader = WeightsReader(self._servers, NOBODY, torch.from_numpy(initial))
        while True:
            self._due = self._actor.event()
            try:
                pulled = await self._pull()
                fresh = await reader.fetch(pulled)
            except ActorDied:
                continue
            except Refused as refusal:  # restored meanwhile, or the version was gone: again
                if refusal.reason == STOPPING:
                    return
                continue
            if fresh:
                await self._weights.publish(Weights(pulled.version, reader.read()))
            await self._due.wait()
