"""Replay client: draws batches from all shards of a replay, and sends new priorities back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from actorq.actors import Actor, Group
from actorq.replay.chunk import Batch, Sample, join
from actorq.replay.ids import shards_of
from actorq.replay.redis.sample_refs import SampleRefs
from actorq.replay.sampling.prioritized import importance_weights
from actorq.replay.shares import split_draws

from .messages import DrawSample, SampleReply, UpdatePriorities, Version
from .redis_reader import RedisReading


class ReplayClient:
    """Two-level sampling: first the number of draws from each shard, then the draws within each.

    A shard's share follows from the sum of p^alpha in its last reply. A transition's probability is the one
    it was really drawn with: the shard's share, as used, times the probability within the shard; the
    importance weights are computed from it. Shards that store their transitions in Redis reply with
    references, and the data are read from there.
    """

    def __init__(
        self, shards: Group[DrawSample | UpdatePriorities], seed: int, actor: Actor | None = None
    ) -> None:
        """`actor`: the one that uses the client; needed where shards store their transitions in Redis."""
        self._shards = shards
        self._totals = np.ones(len(shards))
        self._rng = np.random.default_rng(seed)
        self._redis = None if actor is None else RedisReading(actor, shards)

    async def draw(self, batch_size: int, batches: int, version: Version) -> Batch:
        """Draw several batches as one, which `Batch.split` takes apart.

        Waits for the rate limiter, for the first insert, and for a Redis that is down. After a shard's crash
        its next incarnation is asked. Cancelled, samples that the limiter has admitted stay counted. Raises
        Refused when the run stops.
        """
        size = admit = batch_size * batches
        wait = len(self._shards) == 1  # no other shard to draw from
        while True:
            counts = split_draws(self._totals, size, self._rng)
            shares = self._totals / self._totals.sum()
            replies = await self._ask(counts, version, admit, batches, wait)
            self._totals = np.array([reply.total for reply in replies])
            if sum(len(reply.sample) for reply in replies) == size:
                break
            # A shard is empty, because it or the run has just started: draw the whole batch from the others.
            admit = batches = 0
            if wait := not self._totals.any():
                self._totals = np.ones(len(self._shards))
        samples: Sequence[Sample | SampleRefs] = [reply.sample for reply in replies]
        if isinstance(samples[0], SampleRefs):
            if self._redis is None:
                raise RuntimeError("the replay is in Redis: give ReplayClient the actor that uses it")
            samples, sample = await self._redis.read(cast(Sequence[SampleRefs], samples), version)
        else:
            sample = join([each for each in cast(Sequence[Sample], samples) if len(each)])
        probabilities = sample.probabilities * np.repeat(shares, [len(each) for each in samples])
        weights = importance_weights(probabilities, replies[0].beta)
        return Batch.of(structs.replace(sample, probabilities=probabilities), weights)

    async def update(self, ids: NDArray[np.int64], priorities: NDArray[np.float32]) -> None:
        """Send new priorities |TD error| [n] to the shards that hold `ids` [n]. Waits as `tell` does."""
        if len(self._shards) == 1:
            await self._shards[0].tell(UpdatePriorities(ids, priorities))
            return
        shards = shards_of(ids)
        for number in range(len(self._shards)):
            own = shards == number
            if own.any():
                await self._shards[number].tell(UpdatePriorities(ids[own], priorities[own]))

    async def _ask(
        self, counts: NDArray[np.int64], version: Version, admit: int, batches: int, wait: bool
    ) -> Sequence[SampleReply]:
        """Have the first shard admit and draw, and then the others draw."""
        first = DrawSample(int(counts[0]), version, admit, batches, wait)
        others = [
            DrawSample(int(count), version, 0, 0, wait, shard=number)
            for number, count in enumerate(counts[1:], 1)
        ]
        reply = await self._shards[0].ask(first, retry=True)
        if not others:
            return [reply]
        rest = self._shards[1:].all()
        return [reply, *await rest.ask_each(others, retry=True)]
