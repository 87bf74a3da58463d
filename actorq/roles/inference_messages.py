"""What explorers without weights ask whoever has them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from actorq.actors import Message, Request

from .messages import Version


class Acted(Message, frozen=True):
    """What acting is worth."""

    q_values: NDArray[Any]
    """[B, actions]"""
    version: Version
    """Of the weights that say so."""


class Act(Request[Acted], frozen=True):
    """Say what each action is worth; answered when there are weights."""

    observations: NDArray[Any]
    """[B, *observation_shape], stacked, in the environment's own dtype."""
    task: int = 0
    """Which of the tasks they are of, by its place in the file."""
