"""What learners with parameters of their own say to the root of their tree."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from actorq.actors import Message, Request
from actorq.roles.replay.messages import Version


class Synchronized(Message, frozen=True):
    """What to go on with."""

    version: Version
    """Of the centre; its updates are all learners' together."""
    parameters: NDArray[Any]
    """[size] the flat vector."""


class JoinAveraging(Request[Synchronized], frozen=True):
    """Where a learner's life begins: the centre as it is now.

    Refused when the run stops, and for a life that has ended.
    """

    learner: str
    """Its name."""
    life: int
    """Its restarts."""
    learning: bool
    """Whether it makes updates from now on: then the others wait for it."""


class Synchronize(Request[Synchronized], frozen=True):
    """Meet the others, or the centre; answered when the meeting is over.

    Refused as `JoinAveraging` is, and for parameters of the wrong size or type, NaN or infinite.
    """

    learner: str
    life: int
    updates: int
    """Made since it met or joined last."""
    parameters: NDArray[Any]
    """[size] the flat vector."""
