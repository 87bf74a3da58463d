"""What the training actors say to each other."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from actorq.actors import Message, Request
from actorq.replay.chunk import Chunk, Transitions
from actorq.replay.redis.config import Place


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
    """Put a chunk into the replay; answered when the rate limiter has let it in and the store has it."""

    chunk: Chunk
    version: Version
    """Of the weights it was explored with."""


class Sampled(Message, frozen=True, tag=True):
    """What a shard drew."""

    ids: NDArray[np.int64]
    """[B] the shard's own names of them."""
    probabilities: NDArray[np.float64]
    """[B] of each of them, at each draw from this shard."""
    transitions: Transitions
    """[B]"""
    total: float
    """What the shard weighs from now on: its sum of p^alpha."""
    beta: float
    """The exponent of the importance weights, as the shard that counts batches has it."""


class SampledRefs(Message, frozen=True, tag=True):
    """What a shard drew, and where in Redis it is. `ReplayClient` makes a batch of it."""

    ids: NDArray[np.int64]
    """[B] the shard's own names of them."""
    probabilities: NDArray[np.float64]
    """[B] of each of them, at each draw from this shard."""
    chunks: NDArray[np.int64]
    """[B] the names of the chunks that hold them: never given twice, and what is named never changes."""
    rows: NDArray[np.int32]
    """[B] which transition of its chunk each is."""
    total: float
    """What the shard weighs from now on: its sum of p^alpha."""
    beta: float
    """The exponent of the importance weights, as the shard that counts batches has it."""
    place: Place
    """Where the shard's chunks are now."""


class Sample(Request[Sampled | SampledRefs], frozen=True):
    """Draw transitions.

    With several shards each is asked for its part, the first of them to have all admitted.
    """

    count: int
    version: Version
    """Of the learner's parameters, for measuring how stale explorers' weights are."""
    admit: int | None = None
    """What the rate limiter is to let through: the samples of all shards together; absent: `count`; 0 if it
    has done so already."""
    batches: int = 1
    """How many batches that makes: the exponent of the importance weights goes by them."""
    wait: bool = True
    """Whether a shard that holds nothing waits until it does, or else answers with none."""
    missing: NDArray[np.int64] | None = None
    """Chunks that were not where the last answer had them: this is asked for in its stead. None of them: it
    was Redis that wasn't there."""


class UpdatePriorities(Message, frozen=True):
    """New raw priorities |TD error| of transitions, by the shard's ids."""

    ids: NDArray[np.int64]
    priorities: NDArray[np.float32]


class Admitted(Message, frozen=True):
    """So many may pass, and are counted."""


class AdmitInsert(Request[Admitted], frozen=True):
    """Let so many transitions be inserted; answered when they may."""

    count: int
    at_once: bool = False
    """The shard holds nothing, and learners may be waiting for it."""


class AdmitSample(Request[Admitted], frozen=True):
    """Let so many transitions be sampled; answered when they may."""

    count: int


class Withdraw(Message, frozen=True):
    """So many transitions that were admitted were not inserted after all."""

    count: int


class RedisAddress(Message, frozen=True):
    """Where the run's own Redis listens."""

    url: str
    keep: bool
    """Whether its data outlive the run."""


class WhereIsRedis(Request[RedisAddress], frozen=True):
    """Where does it listen; answered when it does."""
