"""Storage backends of a replay shard: its own memory, or Redis."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, Ref
from actorq.replay.buffer import ReplayBuffer
from actorq.replay.chunk import Chunk, Sample
from actorq.replay.config import ReplayConfig
from actorq.replay.ids import id_offset
from actorq.replay.redis.config import Place, RedisConfig
from actorq.replay.redis.sample_refs import SampleRefs

from .messages import WhereIsRedis

if TYPE_CHECKING:
    from actorq.replay.redis.replay import RedisReplay

DELETING_SECONDS = 5.0
"""Most time spent at a run's end on deleting data that is not kept; the next run of the same name deletes
the rest."""


class StorageBackend:
    """Operations of a shard that depend on where its transitions are stored."""

    replay: ReplayBuffer | RedisReplay
    id_offset: int
    """Added to the ids of `replay`, which makes them the shard's own ids."""

    async def add(self, chunk: Chunk) -> range:
        """Store a chunk; returns the ids that `replay` gave its transitions.

        Raises ValueError if the chunk is malformed, and Refused if the run stops before it can be stored.
        """
        raise NotImplementedError

    def draw(self, count: int) -> Sample | SampleRefs:
        """Draw `count` transitions, with the ids of `replay`; none if it is empty."""
        raise NotImplementedError

    def report_missing(self, chunks: NDArray[np.int64]) -> None:
        """A learner did not find `chunks` [n] in the store; empty: the store was unreachable."""

    def drain(self) -> None:
        """The run is stopping: no longer wait for the store."""

    async def stop(self) -> None:
        """Called when the shard stops in order."""


class MemoryBackend(StorageBackend):
    """Stores transitions in the process; they end with it, except for snapshots and checkpoints."""

    replay: ReplayBuffer

    def __init__(self, replay: ReplayBuffer, incarnation: int) -> None:
        self.replay, self.id_offset = replay, id_offset(incarnation)

    async def add(self, chunk: Chunk) -> range:
        return self.replay.add(chunk)

    def draw(self, count: int) -> Sample:
        return self.replay.draw(count) if count and len(self.replay) else _empty_sample()


def _empty_sample() -> Sample:
    return Sample(
        ids=np.empty(0, np.int64),
        probabilities=np.empty(0),
        observations=np.empty(0, np.float32),
        actions=np.empty(0, np.int64),
        returns=np.empty(0, np.float32),
        discounts=np.empty(0, np.float32),
        next_observations=np.empty(0, np.float32),
    )


class RedisBackend(StorageBackend):
    """Stores transitions in Redis, under keys with the names of the run and of the shard."""

    replay: RedisReplay
    id_offset = 0  # Redis counts the assigned ids, over all incarnations

    def __init__(
        self, actor: Actor, config: ReplayConfig, redis: RedisConfig, server: Ref[WhereIsRedis] | None
    ) -> None:
        self._actor, self._config, self._redis, self._server = actor, config, redis, server
        self._keep = redis.keep

    async def open(self) -> None:
        """Load the index of the chunks in Redis, once it is reachable. At a run's start without `keep`, data
        left by an earlier run are deleted.

        Raises RuntimeError if Redis refuses the connection, has keys of these names that are not actorq's, or
        has data to keep although this run does not set `keep`.
        """
        from actorq.replay.redis.replay import RedisReplay
        from actorq.replay.redis.store import RedisStore

        from .redis_writer import RedisWriter

        place = await self._find()
        store = RedisStore(place, keep=self._keep)
        # In a thread: the first prioritized index on a machine compiles its kernels.
        make = partial(RedisReplay, self._config, store, seed=self._actor.seed)
        self.replay = await self._actor.in_thread(make)
        self._writer = RedisWriter(self._actor, self.replay, self._find)
        await self._writer.open(afresh=not self._keep and self._actor.restarts == 0)

    async def add(self, chunk: Chunk) -> range:
        return await self._writer.add(chunk)

    def draw(self, count: int) -> SampleRefs:
        return self.replay.draw(count)

    def report_missing(self, chunks: NDArray[np.int64]) -> None:
        self._writer.report_missing(data_lost=self.replay.holds_any(chunks))

    def drain(self) -> None:
        self._writer.drain()

    async def stop(self) -> None:
        if not self._keep:
            with anyio.move_on_after(DELETING_SECONDS):
                await self._writer.delete()

    async def _find(self) -> Place:
        url, redis = self._redis.url, self._redis
        if url is None:
            assert self._server is not None
            address = await self._server.ask(WhereIsRedis())
            url, self._keep = address.url, address.keep
        shard = f"{self._actor.run_name}:{self._actor.name}"
        return Place(url, redis.password_env, shard, redis.cache_mb)
