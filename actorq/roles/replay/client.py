"""Replay client: draws batches from all shards of a replay, and sends new priorities back; replay dataset:
training batches of all tasks, prefetched while the learner computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias, cast

import numpy as np
from msgspec import Meta, structs
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import Actor, Group
from actorq.actors.sync import Prefetcher
from actorq.envs.task import batch_rows
from actorq.replay.chunk import Batch, Sample, join
from actorq.replay.ids import shards_of
from actorq.replay.redis.sample_refs import SampleRefs
from actorq.replay.sampling.prioritized import importance_weights
from actorq.replay.shares import split_draws
from actorq.roles.common.learning_actor import LearningActor

from .messages import DrawSample, SampleReply, UpdatePriorities, Version
from .redis_reader import RedisReading

if TYPE_CHECKING:
    import torch

    from actorq.learning.networks.flat import FlatParameters
    from actorq.learning.staging import StagedBatch

DatasetDraw: TypeAlias = "Sequence[Sequence[Batch | StagedBatch]]"
"""Of each update, a batch of each task."""


class DatasetConfig(actors.Config):
    """Settings for drawing batches."""

    batches_per_ask: Annotated[
        int, Meta(ge=1, description="batches drawn with one message; their priorities go back together")
    ] = 4
    draws_ahead: Annotated[
        int,
        Meta(ge=1, description="draws of batches_per_ask batches, ready or in progress while it computes"),
    ] = 2


class ReplayDataset:
    """Iterates over training batches that are prefetched from the shards of a replay.

    With several tasks the shards are divided among them in blocks: of six, two tasks have three each, in
    order. A batch has as many transitions of each task as its share sets, however many are in the replay;
    importance weights are computed for each task separately.
    """

    def __init__(
        self,
        actor: LearningActor,
        shards: Group[DrawSample | UpdatePriorities],
        settings: DatasetConfig,
        version: Callable[[], Version],
        parameters: FlatParameters | None = None,
    ) -> None:
        """Starts drawing at once, in tasks of `actor`.

        `version` returns that of the learner's parameters now. `parameters`: batches are staged on their
        device if it is a CUDA device.
        """
        tasks, self.batch_size = actor.all_tasks, actor.agent.batch_size
        """Transitions of an update, over all tasks; a change applies to later draws."""
        self._actor, self._tasks, self._version = actor, tasks, version
        self._batches_per_draw = settings.batches_per_ask
        block = len(shards) // len(tasks)
        self._clients = [
            ReplayClient(shards[task * block : (task + 1) * block], actor.seed + task, actor)
            for task in range(len(tasks))
        ]
        self._staging = None
        if parameters is not None and parameters.device.type == "cuda":
            self._staging = self._make_staging(parameters.dtype, parameters.device, settings.draws_ahead)
        self._ids: Sequence[Sequence[NDArray[np.int64]]] = ()
        """Of each update of the draw that `next` returned last, the ids [B] of each task's batch."""
        self._prefetcher = Prefetcher(actor, self._draw, settings.draws_ahead)

    async def next(self) -> DatasetDraw:
        """The batches of the next draw, `batches_per_ask` updates, as soon as they are there. Staged batches
        may still be in transfer to the device.
        """
        self._ids, draw = await self._prefetcher.next()
        return draw

    def take_waiting_share(self) -> float:
        """Share of the time since the last call of this method that was spent waiting in `next`."""
        return self._prefetcher.take_waiting_share()

    async def update(self, priorities: Mapping[int, NDArray[np.float32]]) -> None:
        """Send back the priorities [B] of updates, by their number within the draw that `next` returned last.

        Those of the first task come first in each array, then the next task's. Waits as `tell` does.
        """
        begin = 0
        for task, client in enumerate(self._clients):
            ids = [self._ids[number][task] for number in priorities]
            end = begin + len(ids[0])
            found = [each[begin:end] for each in priorities.values()]
            await client.update(np.concatenate(ids), np.concatenate(found))
            begin = end

    async def _draw(self) -> tuple[Sequence[Sequence[NDArray[np.int64]]], DatasetDraw]:
        version, drawn = self._version(), []
        for client, rows in zip(self._clients, batch_rows(self._tasks, self.batch_size), strict=True):
            drawn.append(await client.draw(rows, self._batches_per_draw, version))
        updates = list(zip(*(batch.split(self._batches_per_draw) for batch in drawn), strict=True))
        ids = [[batch.ids for batch in update] for update in updates]
        if self._staging is None:
            return ids, updates
        batches = [batch for update in updates for batch in update]
        staged = iter(await self._actor.in_thread(self._staging, batches))
        return ids, [[next(staged) for _ in update] for update in updates]

    def _make_staging(
        self, dtype: torch.dtype, device: torch.device, ahead: int
    ) -> Callable[[Sequence[Batch]], list[StagedBatch]]:
        from actorq.learning.staging import AheadStaging

        # One draw is trained on, one is being staged, `ahead` are ready; each task has buffers of its own.
        return AheadStaging(dtype, device, self._batches_per_draw * (ahead + 2) * len(self._tasks))


class ReplayClient:
    """Two-level sampling: first the number of draws from each shard, then the draws within each.

    A shard's share follows from the sum of p^alpha in its last reply. A transition's probability is the one
    with which it was actually drawn: the shard's share, as used, times the probability within the shard; the
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
        """Draw several batches as one, to be divided by `Batch.split`.

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
                raise RuntimeError("the replay is in Redis: ReplayClient needs the actor that uses it")
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
