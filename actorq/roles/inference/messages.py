"""Protocol between explorers and the actors that evaluate observations for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from actorq.actors import Message, Refused, Request
from actorq.learning.networks.spec import TaskSpaces
from actorq.roles.replay.messages import Version


class Acted(Message, frozen=True):
    """Q-values of observations."""

    q_values: NDArray[Any]
    """[B, actions]"""
    version: Version
    """Version of the weights they were computed with."""


class Act(Request[Acted], frozen=True):
    """Evaluate observations; answered when there are weights."""

    observations: NDArray[Any]
    """[B, *observation_shape], stacked, in the environment's own dtype."""
    task: int = 0
    """Index of their task in the file."""


def check_question(request: Act, tasks: Sequence[TaskSpaces]) -> None:
    """Raises Refused for observations that don't fit their task."""
    if not 0 <= request.task < len(tasks):
        raise Refused(f"there is no task {request.task}; there are {len(tasks)}")
    asked, known = request.observations, tasks[request.task]
    if asked.shape[1:] != known.observation_shape or asked.dtype != known.dtype:
        raise Refused(
            f"observations are [B, *{known.observation_shape}] of {known.dtype}, "
            f"not {asked.shape} of {asked.dtype}"
        )
