"""Reading a replay: batches drawn from all its shards, and new priorities on their way back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, Group
from actorq.replay.chunk import Batch, Transitions
from actorq.replay.sampling.prioritized import importance_weights
from actorq.replay.shares import split_draws
from actorq.roles.common.retry import ask_its_incarnations

from .messages import Sample, Sampled, SampledRefs, UpdatePriorities, Version
from .redis_reader import RedisReading


class ReplayClient:
    """Draws in two levels, with no tree over all: first how many from each shard, then those from there.

    Shards weigh what they said with their last answer. Each draw comes with the probability it was really
    drawn with, the shard's share as used times that within the shard; the importance weights use that one.
    A transition is called id * shards + shard here. What shards keep in Redis is read from there.
    """

    def __init__(
        self, shards: Group[Sample | UpdatePriorities], seed: int, actor: Actor | None = None
    ) -> None:
        """`actor`: whose reader it is; without it shards have to be in memory."""
        self._shards = shards
        self._totals = np.ones(len(shards))
        self._rng = np.random.default_rng(seed)
        self._sleep = anyio.sleep if actor is None else actor.sleep
        self._redis = None if actor is None else RedisReading(actor, shards)

    async def draw(self, batch_size: int, batches: int, version: Version) -> Batch:
        """So many batches in one: `Batch.split` takes them apart.

        Waits for the rate limiter and until there is something, and for a Redis that is down. A shard's crash
        costs nothing: its next life is asked. Cancelled, what the limiter has let through stays
        counted. Raises Refused when the run stops.
        """
        size = admit = batch_size * batches
        wait = len(self._shards) == 1  # there is no other to draw from
        while True:
            counts = split_draws(self._totals, size, self._rng)
            shares = self._totals / self._totals.sum()
            replies = await self._ask(counts, version, admit, batches, wait)
            self._totals = np.array([reply.total for reply in replies])
            if sum(len(reply.ids) for reply in replies) == size:
                break
            # Some shard holds nothing, having just begun or begun anew: the others make the whole draw.
            admit = batches = 0
            if wait := not self._totals.any():
                self._totals = np.ones(len(self._shards))
        if isinstance(replies[0], SampledRefs):
            if self._redis is None:
                raise RuntimeError("these shards are in Redis: a ReplayClient reads there for an actor only")
            replies, transitions = await self._redis.read(replies, version)
        else:
            transitions = _join([reply.transitions for reply in replies if len(reply.ids)])
        probabilities = np.concatenate(
            [reply.probabilities * share for reply, share in zip(replies, shares, strict=True)]
        )
        return Batch.of(
            self._ids(replies),
            probabilities,
            transitions,
            importance_weights(probabilities, replies[0].beta),
        )

    async def update(self, ids: NDArray[np.int64], priorities: NDArray[np.float32]) -> None:
        """Send new priorities |TD error| [n] to the shards that hold `ids` [n]. Waits as `tell` does."""
        count = len(self._shards)
        if count == 1:
            await self._shards[0].tell(UpdatePriorities(ids, priorities))
            return
        shards, own = ids % count, ids // count
        for shard in range(count):
            there = shards == shard
            if there.any():
                await self._shards[shard].tell(UpdatePriorities(own[there], priorities[there]))

    async def _ask(
        self, counts: NDArray[np.int64], version: Version, admit: int, batches: int, wait: bool
    ) -> Sequence[Any]:
        """The first shard has all admitted, then the others draw."""
        first = Sample(int(counts[0]), version, admit, batches, wait)
        others = [Sample(int(count), version, 0, 0, wait) for count in counts[1:]]
        reply = await ask_its_incarnations(partial(self._shards[0].ask, first), self._sleep)
        if not others:
            return [reply]
        rest = self._shards[1:].all()
        return [reply, *await ask_its_incarnations(partial(rest.ask_each, others), self._sleep)]

    def _ids(self, replies: Sequence[Sampled | SampledRefs]) -> NDArray[np.int64]:
        count = len(replies)
        return np.concatenate([reply.ids * count + shard for shard, reply in enumerate(replies)])


def _join(parts: Sequence[Transitions]) -> Transitions:
    if len(parts) == 1:
        return parts[0]
    return Transitions(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Transitions.__struct_fields__)
    )
