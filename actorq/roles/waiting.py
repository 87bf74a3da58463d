"""Who waits at the front: readers for a version, those who pushed for their gradient's turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from actorq.actors.scheduling import Event

from .server_messages import Pulled, Push

Fate = Literal["accepted", "scaled", "late", "stale"]


NOBODY = -1
"""A reader that is no worker."""


@dataclass(eq=False, slots=True, kw_only=True)
class Reader:
    """Someone who waits for the newest version to be kept."""

    worker: int
    """Its index, or NOBODY."""
    life: int
    computing: bool
    answered: Event
    pulled: Pulled | None = None
    refusal: str | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class Held(Reader):
    """Someone who has pushed a gradient, and reads the version that came of it."""

    push: Push
    norm: float
    """Euclidean, over all shards; finite."""
    fate: Fate = field(default="accepted")
