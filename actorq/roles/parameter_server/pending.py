"""Who waits at the front: readers for a version, those who pushed for their gradient's turn."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Literal

from actorq.actors.runtime.scheduler import Event
from actorq.learning.distributed.update_rules import Offer

from .messages import Pulled, Push

DeliveryState = Literal["accepted", "scaled", "late", "stale"]


NOBODY = -1
"""A reader that is no worker."""


@dataclass(eq=False, slots=True, kw_only=True)
class PendingPull:
    """Someone who waits for the newest version to be kept."""

    worker: int
    """Its index, or NOBODY."""
    incarnation: int
    computing: bool
    answered: Event
    pulled: Pulled | None = None
    refusal: str | None = None

    def refuse(self, reason: str) -> None:
        self.refusal = reason
        self.answered.set()


@dataclass(eq=False, slots=True, kw_only=True)
class PendingPush(PendingPull):
    """Someone who has pushed a gradient, and reads the version that came of it."""

    push: Push
    norm: float
    """Euclidean, over all shards; finite."""
    delivery_state: DeliveryState = field(default="accepted")


class PendingRequests:
    """All who wait at a front. Who pushed is held until its gradient's turn comes, and reads after that."""

    def __init__(self) -> None:
        self.readers: list[PendingPull] = []
        self._held: defaultdict[Offer, deque[PendingPush]] = defaultdict(deque)

    @property
    def holds(self) -> bool:
        """Whether any gradient waits for its turn."""
        return bool(self._held)

    def hold(self, offer: Offer, held: PendingPush) -> None:
        self._held[offer].append(held)

    def take(self, offer: Offer) -> PendingPush:
        """Whose offer it is; of equal ones the first."""
        waiting = self._held[offer]
        held = waiting.popleft()
        if not waiting:
            del self._held[offer]
        return held

    def take_of(self, worker: int) -> list[PendingPush]:
        """All of a worker's."""
        offers = [offer for offer in self._held if offer.worker == worker]
        return [held for offer in offers for held in self._held.pop(offer)]

    def take_readers(self) -> list[PendingPull]:
        readers, self.readers = self.readers, []
        return readers

    def refuse_readers_of(self, worker: int, reason: str) -> None:
        for reader in self.readers:
            if reader.worker == worker:
                reader.refuse(reason)

    def refuse_held(self, reason: str) -> None:
        """They are held on: the update rule may still give their offers a turn."""
        for waiting in self._held.values():
            for held in waiting:
                held.refuse(reason)

    def let_go(self) -> None:
        """Nobody is held: the update rule has forgotten all offers."""
        self._held.clear()

    def refuse_readers(self, reason: str) -> None:
        for reader in self.readers:
            reader.refuse(reason)
