"""Replay shard: inserts chunks and draws from them, as admitted by the rate limiter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import actorq.actors as actors
from actorq.actors import ActorSpec, Ref, Refused, SettingProblem, State, Stopping, handles
from actorq.actors.sync import AdmissionQueue, Semaphore
from actorq.replay import buffer
from actorq.replay.buffer import make_replay
from actorq.replay.ids import shard_offset, without_shard
from actorq.replay.redis.config import RedisConfig, missing_packages
from actorq.roles.common.replay_memory import explorers_of, replay_memory

from .backend import MemoryBackend, RedisBackend, StorageBackend
from .config import ShardConfig, pace_problems, redis_problems
from .messages import (
    AdmitInsert,
    AdmitSample,
    DrawSample,
    Insert,
    Inserted,
    SampleReply,
    UpdatePriorities,
    Version,
    WhereIsRedis,
    Withdraw,
)
from .rate_limiter import RateLimitGate

if TYPE_CHECKING:
    from actorq.replay.redis.replay import RedisReplay


class ReplayShard(actors.Actor):
    """A replay, uniform or prioritized: alone with its own rate limiter, or a shard with a common one.

    Inserts and samples wait in separate queues of the limiter; new priorities are set by id, and late ones
    are ignored and counted.
    """

    class Config(ShardConfig, frozen=True, kw_only=True):
        pass

    one_state = True

    limiter: Ref[AdmitInsert | AdmitSample | Withdraw] | None
    redis: Ref[WhereIsRedis] | None

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        yield from ((f"config.{field}", sentence) for field, sentence in config.shard_problems())
        yield from ((f"config.redis.{field}", sentence) for field, sentence in config.redis.problems())
        if config.store == "memory" and config.redis != RedisConfig():
            yield "config.redis", 'is for store = "redis"'

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
        yield from pace_problems(spec, specs)
        yield from redis_problems(spec, list(specs))

    @classmethod
    def machine_problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        if config.store == "redis":
            if missing := missing_packages():
                yield "config.store", missing
            yield from (
                (f"config.redis.{key}", sentence) for key, sentence in config.redis.machine_problems()
            )

    @classmethod
    def memory(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, int]]:
        config = cast(ShardConfig, spec.config)
        explorers = explorers_of(spec.name, specs.values())
        return replay_memory(config, explorers, in_redis=config.store == "redis")

    @classmethod
    def state_problems(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[SettingProblem]:
        saved = "memory" if "store" in state["replay"] else "redis"
        if saved != config.store:
            yield "config.store", f"is {config.store}, but the saved replay was in {saved}"
        yield from ((f"config.{key}", sentence) for key, sentence in config.state_problems(state["replay"]))

    async def on_start(self) -> None:
        self._gate = RateLimitGate(self, self.config) if self.limiter is None else None
        self._asking = Semaphore(self, 1)
        self._draws = AdmissionQueue(self, self._may_draw)
        self._batches = 0
        self._newest = Version(0, 0)
        self._filling = self._stopping = False
        self._held_up = 0
        """Transitions for which the limiter is being asked; 0 if they may be inserted at once."""
        self._backend = await self._open_backend()

    async def _open_backend(self) -> StorageBackend:
        if self.config.store == "redis":
            in_redis = RedisBackend(self, self.config, self.config.redis, self.redis)
            await in_redis.open()
            return in_redis
        # In a thread: the first prioritized index on a machine compiles its kernels.
        replay = await self.in_thread(partial(make_replay, self.config, seed=self.seed))
        return MemoryBackend(replay, self.restarts)

    @property
    def _replay(self) -> buffer.ReplayBuffer | RedisReplay:
        return self._backend.replay

    @handles(concurrent=1024)
    async def insert(self, request: Insert) -> Inserted:
        count = len(request.chunk)
        if count > self.config.capacity:
            raise Refused(
                f"a chunk of {count} transitions doesn't fit a replay of capacity {self.config.capacity}:"
                " make the capacity larger or the chunks shorter"
            )
        await self._admit_insert(count)
        try:
            ids = await self._backend.add(request.chunk)
        except (ValueError, Refused) as error:
            await self._withdraw(count)
            raise Refused(str(error)) from error
        finally:
            self._filling = False
        self._report_insert(request.version)
        self._draws.advance()
        return Inserted(ids.start + self._backend.id_offset, count)

    @handles(concurrent=64)
    async def sample(self, request: DrawSample) -> SampleReply:
        if self._stopping:
            raise Stopping
        if request.missing is not None:
            self._backend.report_missing(request.missing)
        self._newest = max(self._newest, request.version)  # learners may take turns
        admit = request.count if request.admit is None else request.admit
        if admit:
            await self._admit_sample(admit)
            if self._stopping:  # meanwhile
                raise Stopping
        if request.count and not len(self._replay):
            await self._relieve()
        if not request.wait:
            return self._draw(request)
        return await self._draws.pass_through(request.count, partial(self._draw, request))

    @handles
    async def update_priorities(self, message: UpdatePriorities) -> None:
        ids, priorities = without_shard(message.ids) - self._backend.id_offset, message.priorities
        try:
            if ids.ndim != 1 or ids.shape != priorities.shape:
                raise ValueError(f"priorities have shape {priorities.shape} for ids of shape {ids.shape}")
            gone = ids < 0  # of an earlier incarnation
            late = self._replay.update(ids[~gone], priorities[~gone]) + int(gone.sum())
        except ValueError as error:
            raise Refused(str(error)) from error
        self.observe("priority", message.priorities)
        if late:
            self.progress("late_priorities", late)

    def _may_draw(self, count: int) -> bool:
        return count == 0 or len(self._replay) > 0

    def _draw(self, request: DrawSample) -> SampleReply:
        beta = self.config.beta(self._batches)
        self._batches += request.batches
        sample = self._backend.draw(request.count)
        self.observe("age", self._replay.next_id - 1 - sample.ids)
        offset = shard_offset(request.shard) + self._backend.id_offset
        np.add(sample.ids, offset, out=sample.ids)
        return SampleReply(sample, self._replay.total, beta)

    def _report_insert(self, version: Version) -> None:
        self.report("replay_size", len(self._replay))
        if self._gate is not None:
            self._gate.report()
        if version.incarnation == self._newest.incarnation and not self._stopping:
            self.observe("weights_staleness", max(0, self._newest.updates - version.updates))

    # Admission by the shard's own rate limiter, or by that of all shards.

    async def _admit_insert(self, count: int) -> None:
        """Admit an insert; at once while the shard is empty, since learners waiting for it let nothing else
        through.

        Of several inserts that wait for the common limiter one asks it, and the others wait here: if the
        shard dies, the limiter has counted no more than that one.
        """
        if self._gate is not None:
            await self._gate.insert(count, at_once=self._begin_filling())
            return
        async with self._asking:
            at_once = self._begin_filling()
            self._held_up = 0 if at_once else count
            try:
                await self._ask_limiter(AdmitInsert(count, at_once))
            finally:
                self._held_up = 0

    def _begin_filling(self) -> bool:
        """Whether this insert is the first into an empty shard."""
        first = len(self._replay) == 0 and not self._filling
        self._filling = self._filling or first
        return first

    async def _relieve(self) -> None:
        """Admit one insert for a learner that waits for a shard that has become empty, as when Redis lost all
        data.

        Otherwise the limiter, which delays inserts until there are samples, would wait for the learner.
        """
        if self._gate is not None:
            self._gate.relieve()
        elif self._held_up:
            count, self._held_up = self._held_up, 0
            await self._withdraw(count)

    async def _admit_sample(self, count: int) -> None:
        if self._gate is not None:
            await self._gate.sample(count)
        else:
            await self._ask_limiter(AdmitSample(count))

    async def _ask_limiter(self, request: AdmitInsert | AdmitSample) -> None:
        assert self.limiter is not None
        await self.limiter.ask(request, retry=True)

    async def _withdraw(self, count: int) -> None:
        if self._gate is not None:
            self._gate.withdraw(count)
        elif self.limiter is not None:
            await self.limiter.tell(Withdraw(count))

    def on_drain(self) -> None:
        self._stopping = True
        if self._gate is not None:
            self._gate.drain()
        self._draws.close(Stopping())
        self._backend.drain()

    async def on_stop(self) -> None:
        await self._backend.stop()

    def state(self) -> State:
        return {
            "replay": self._replay.state(),
            "gate": None if self._gate is None else self._gate.state(),
            "batches": self._batches,
            "origin": self._backend.id_offset,
        }

    def load_state(self, state: State) -> None:
        self._replay.load_state(state["replay"])
        if self._gate is not None and state["gate"] is not None:
            self._gate.load_state(state["gate"])
        self._batches = state["batches"]
        if not self.restarts:  # a later incarnation assigns new ids also to the transitions that it keeps
            self._backend.id_offset = state["origin"]
