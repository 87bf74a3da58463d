"""What the training actors say to each other."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from actorq.actors import Message, Request
from actorq.replay.experience import Batch, Chunk


class Version(msgspec.Struct, frozen=True):
    """Which parameters: updates behind them, and the incarnation of the actor that made these updates.

    Versions of different incarnations can't be compared.
    """

    incarnation: int
    updates: int


class Weights(Message, frozen=True):
    """The newest parameters, to whoever acts with them."""

    delivery: ClassVar[Literal["each", "latest"]] = "latest"

    version: Version
    parameters: NDArray[Any]
    """The flat vector, [size]."""


class Inserted(Message, frozen=True):
    """The transitions of a chunk are in the replay."""

    first_id: int
    count: int


class Insert(Request[Inserted], frozen=True):
    """Put a chunk into the replay; answered when the rate limiter lets it in."""

    chunk: Chunk
    version: Version
    """Of the weights it was explored with."""


class Sampled(Message, frozen=True):
    """Several batches in one, drawn together as the replay's index has it: `Batch.split` takes them apart."""

    batch: Batch


class Sample(Request[Sampled], frozen=True):
    """Draw batches; answered when there is enough and the rate limiter allows it."""

    batch_size: int
    version: Version
    """Of the learner's parameters, for measuring how stale explorers' weights are."""
    batches: int = 1


class UpdatePriorities(Message, frozen=True):
    """New raw priorities |TD error| of transitions, by id."""

    ids: NDArray[np.int64]
    priorities: NDArray[np.float32]
