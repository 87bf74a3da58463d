"""Pending requests of the coordinator: pushes and pulls without a reply yet."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal

from actorq.actors import Refused
from actorq.actors.sync import Future
from actorq.learning.distributed.update_rules import Offer

from .messages import Pulled, Push

DeliveryState = Literal["accepted", "scaled", "late", "stale"]


NOBODY = -1
"""The worker index of readers that push no gradients."""


@dataclass(eq=False, slots=True)
class PendingPull:
    """A reader waiting until the shards keep the newest version."""

    worker: int
    """The reader's index, or NOBODY."""
    incarnation: int
    computing: bool
    reply: Future[Pulled | None]
    """None for a push that doesn't read."""


@dataclass(eq=False, slots=True)
class PendingPush(PendingPull):
    """A push waiting until its gradient is applied or dropped; then it reads the newest version."""

    request: Push
    norm: float
    """Euclidean norm over all shards; finite."""
    delivery_state: DeliveryState = "accepted"


class PendingRequests:
    """Requests without a reply yet: pushes until their gradient is applied or dropped, then pulls."""

    def __init__(self) -> None:
        self.readers: list[PendingPull] = []
        self._pushes: defaultdict[Offer, deque[PendingPush]] = defaultdict(deque)

    @property
    def has_pushes(self) -> bool:
        """Whether any gradient waits to be applied."""
        return bool(self._pushes)

    def add(self, offer: Offer, push: PendingPush) -> None:
        self._pushes[offer].append(push)

    def take(self, offer: Offer) -> PendingPush:
        """Remove and return the push of an offer; the first of equal ones."""
        waiting = self._pushes[offer]
        push = waiting.popleft()
        if not waiting:
            del self._pushes[offer]
        return push

    def take_of(self, worker: int) -> list[PendingPush]:
        """Remove and return all pushes of a worker."""
        offers = [offer for offer in self._pushes if offer.worker == worker]
        return [push for offer in offers for push in self._pushes.pop(offer)]

    def take_readers(self) -> list[PendingPull]:
        readers, self.readers = self.readers, []
        return readers

    def refuse_readers_of(self, worker: int, refusal: Refused) -> None:
        for reader in self.readers:
            if reader.worker == worker:
                reader.reply.fail(refusal)

    def refuse_pushes(self, refusal: Refused) -> None:
        """Refuse all pushes but keep them: the update rule may still select their offers."""
        for waiting in self._pushes.values():
            for push in waiting:
                push.reply.fail(refusal)

    def clear(self) -> None:
        """Drop all pushes, when the update rule has been reset."""
        self._pushes.clear()

    def refuse_readers(self, refusal: Refused) -> None:
        for reader in self.readers:
            reader.reply.fail(refusal)
