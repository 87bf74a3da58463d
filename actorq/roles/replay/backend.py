"""Where a shard's transitions are: in its own memory, or in Redis."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, Ref
from actorq.replay.buffer import Drawn, ReplayBuffer
from actorq.replay.chunk import Chunk, Transitions
from actorq.replay.config import ReplayConfig
from actorq.replay.redis.config import Place, RedisConfig

from .messages import Sampled, SampledRefs, WhereIsRedis

if TYPE_CHECKING:
    from actorq.replay.redis.replay import RedisReplay

DELETING_SECONDS = 5.0
"""At most for deleting, at a run's end, what isn't to be kept; the next run of the name deletes the rest."""

NOTHING = Drawn(
    np.empty(0, np.int64),
    np.empty(0),
    Transitions(
        observations=np.empty(0, np.float32),
        actions=np.empty(0, np.int64),
        returns=np.empty(0, np.float32),
        discounts=np.empty(0, np.float32),
        next_observations=np.empty(0, np.float32),
    ),
)
"""What is drawn where a shard has no part."""


class StorageBackend(Protocol):
    """What a shard does with its transitions that depends on where they are."""

    @property
    def replay(self) -> ReplayBuffer | RedisReplay: ...

    origin: int
    """What the shard's ids are ahead of the replay's own."""

    async def add(self, chunk: Chunk) -> range:
        """The ids of its transitions, when they are held.

        Raises ValueError if the chunk is wrong, and Refused if the run stops before they can be.
        """
        ...

    def draw(self, count: int, beta: float) -> Sampled | SampledRefs: ...

    def doubt(self, missing: NDArray[np.int64]) -> None:
        """A learner hasn't found chunks [n] where they should be; none: nor the place itself."""

    def drain(self) -> None:
        """The run is stopping."""

    async def stop(self) -> None:
        """It has stopped in order."""


class MemoryBackend:
    """Goes with the process, but for what a snapshot keeps."""

    def __init__(self, replay: ReplayBuffer, origin: int) -> None:
        self.replay, self.origin = replay, origin

    async def add(self, chunk: Chunk) -> range:
        return self.replay.add(chunk)

    def draw(self, count: int, beta: float) -> Sampled:
        drawn = self.replay.draw(count) if count and len(self.replay) else NOTHING
        return Sampled(
            drawn.ids + self.origin, drawn.probabilities, drawn.transitions, self.replay.total, beta
        )

    def doubt(self, missing: NDArray[np.int64]) -> None:
        pass

    def drain(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class RedisBackend:
    """What a shard holds is what Redis has, under keys that carry the run's name and its own."""

    origin = 0  # Redis knows which ids were given out

    def __init__(
        self, actor: Actor, config: ReplayConfig, redis: RedisConfig, server: Ref[WhereIsRedis] | None
    ) -> None:
        self._actor, self._config, self._redis, self._server = actor, config, redis, server
        self._keep = redis.keep

    async def open(self) -> None:
        """Take over what Redis holds, however long it takes to come up. At a run's start without `keep`,
        what an earlier run has left is deleted.

        Raises RuntimeError if Redis refuses us, holds what isn't actorq's under such keys, or what is kept
        and this run doesn't keep.
        """
        from actorq.replay.redis.replay import RedisReplay
        from actorq.replay.redis.store import RedisStore

        from .redis_writer import RedisWriter

        place = await self._find()
        store = RedisStore(place, keep=self._keep)
        # In a thread: a prioritized index compiles its tree when it is first made on a machine.
        make = partial(RedisReplay, self._config, store, seed=self._actor.seed)
        self.replay = await self._actor.in_thread(make)
        self._writer = RedisWriter(self._actor, self.replay, self._find)
        await self._writer.open(afresh=not self._keep and self._actor.restarts == 0)

    async def add(self, chunk: Chunk) -> range:
        return await self._writer.add(chunk)

    def draw(self, count: int, beta: float) -> SampledRefs:
        replay = self.replay
        return SampledRefs(*replay.draw(count), replay.total, beta, self._writer.place)

    def doubt(self, missing: NDArray[np.int64]) -> None:
        self._writer.doubt(of_data=self.replay.holds_any(missing))

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
