"""Messages of the replay actors, and types that all training actors use: parameter versions and weights."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from actorq.actors import Message, Request
from actorq.replay.chunk import Chunk, Sample
from actorq.replay.redis.sample_refs import SampleRefs


class Version(msgspec.Struct, frozen=True, order=True):
    """A parameter version: the incarnation of the actor that owns the parameters, and its updates so far.

    Ordered in time. The numbers of updates of different incarnations can't be compared.
    """

    incarnation: int
    updates: int


class Weights(Message, frozen=True):
    """The newest parameters, published to the actors that act with them."""

    delivery: ClassVar[Literal["each", "latest"]] = "latest"

    version: Version
    parameters: NDArray[Any]
    """The flat vector, [size]."""


class Inserted(Message, frozen=True):
    """The transitions of a chunk are in the replay."""

    first_id: int
    """The shard's own id of the first transition; the others follow."""
    count: int


class Insert(Request[Inserted], frozen=True):
    """Insert a chunk; answered once the rate limiter has admitted it and it is stored."""

    chunk: Chunk
    version: Version
    """Version of the weights it was explored with."""


class SampleReply(Message, frozen=True):
    """A shard's reply to `DrawSample`."""

    sample: Sample | SampleRefs
    """References are read from Redis by `ReplayClient`."""
    total: float
    """The shard's sum of p^alpha from now on: its share in the next draw."""
    beta: float
    """Exponent of the importance weights, by the batches that this shard has counted."""


class DrawSample(Request[SampleReply], frozen=True):
    """Draw transitions, with replacement.

    Each of several shards is asked for its part, and the first of them admits the whole batch.
    """

    count: int
    version: Version
    """Version of the learner's parameters, to measure the staleness of the explorers' weights."""
    admit: int | None = None
    """Samples for the rate limiter to admit: those of all shards together. None: `count`; 0: they are
    admitted already.
    """
    batches: int = 1
    """Number of batches drawn, which advance the schedule of beta."""
    wait: bool = True
    """Whether an empty shard waits for its first insert, or replies with an empty sample."""
    missing: NDArray[np.int64] | None = None
    """Set when retrying: chunks the previous reply located in Redis that were no longer there. Empty array:
    Redis was unreachable. None: not a retry."""
    shard: int = 0
    """The shard's number among the client's shards; it becomes part of the ids (see `replay.ids`)."""


class UpdatePriorities(Message, frozen=True):
    """New raw priorities |TD error| of transitions, by the ids of their samples."""

    ids: NDArray[np.int64]
    """[n]"""
    priorities: NDArray[np.float32]
    """[n]"""


class AdmitInsert(Request[None], frozen=True):
    """Admit the insertion of transitions; answered when the rate limiter allows it."""

    count: int
    at_once: bool = False
    """The shard is empty, and learners may be waiting for it: admit without waiting."""


class AdmitSample(Request[None], frozen=True):
    """Admit the sampling of transitions; answered when the rate limiter allows it."""

    count: int


class Withdraw(Message, frozen=True):
    """Transitions that were admitted were not inserted after all: subtract them."""

    count: int


class RedisAddress(Message, frozen=True):
    """Address of the run's own Redis server."""

    url: str
    keep: bool
    """Whether its data outlive the run."""


class WhereIsRedis(Request[RedisAddress], frozen=True):
    """Ask for the address of the run's own Redis server; answered once it accepts connections."""
