"""Protocol between the averaging server and its learners."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from actorq.actors import Message, Request
from actorq.roles.replay.messages import Version


class Synchronized(Message, frozen=True):
    """The parameters to continue with."""

    version: Version
    """Version of the center; its updates are those of all learners together."""
    parameters: NDArray[Any]
    """[size] the flat vector."""


class JoinAveraging(Request[Synchronized], frozen=True):
    """Get the current center, for a learner that starts.

    Refused when the run stops, and for an incarnation that has died.
    """

    learner: str
    """The learner's name."""
    incarnation: int
    """Number of the learner's restarts."""
    learning: bool
    """Whether the learner makes updates from now on, so that the others wait for it."""


class Synchronize(Request[Synchronized], frozen=True):
    """Average parameters with the other learners' or with the center, by the server's rule.

    Answered when that is done. Refused as `JoinAveraging` is, and for parameters of the wrong size or dtype,
    NaN or infinite.
    """

    learner: str
    incarnation: int
    updates: int
    """Updates since the last synchronization, or since joining."""
    parameters: NDArray[Any]
    """[size] the flat vector."""
