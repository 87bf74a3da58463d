"""The memory, or one shard of it: takes chunks in and draws from them, at the pace of the rate limiter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from msgspec import Meta

import actorq.actors as actors
from actorq.actors import ActorSpec, Ref, Refused, State, handles
from actorq.replay import buffer
from actorq.replay.buffer import make_replay
from actorq.replay.config import ReplayConfig
from actorq.replay.redis.config import RedisConfig, missing_packages

from .gate import STOPPING, Gate
from .holding import Holding, InMemory, InRedis
from .messages import (
    AdmitInsert,
    AdmitSample,
    Insert,
    Inserted,
    Located,
    Sample,
    Sampled,
    UpdatePriorities,
    Version,
    WhereIsRedis,
    Withdraw,
)
from .sizing import explorers_of, replay_memory
from .turnstile import Turnstile

if TYPE_CHECKING:
    from actorq.replay.redis.replay import RedisReplay


class Replay(actors.Actor):
    """A replay, uniform or prioritized: alone behind its own rate limiter, or a shard behind a common one.

    Inserts and samples wait beside each other, each for what the limiter asks of the other; new priorities
    come by id, and those that come too late are ignored and counted.
    """

    class Config(ReplayConfig, actors.Config, frozen=True, kw_only=True):
        store: Annotated[
            Literal["memory", "redis"], Meta(description="where transitions are: in the actor, or in Redis")
        ] = "memory"
        redis: Annotated[RedisConfig, Meta(description="where Redis is, and what becomes of the data")] = (
            RedisConfig()
        )

    one_state = True

    limiter: Ref[AdmitInsert | AdmitSample | Withdraw] | None
    redis: Ref[WhereIsRedis] | None

    @classmethod
    def faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        yield from ((f"config.{field}", sentence) for field, sentence in config.faults())
        yield from ((f"config.redis.{field}", sentence) for field, sentence in config.redis.faults())
        if config.store == "memory" and config.redis != RedisConfig():
            yield "config.redis", 'is for store = "redis"'

    @classmethod
    def wiring_faults(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, str]]:
        wired = "limiter" in spec.ports
        if spec.count > 1 and not wired:
            yield "ports.limiter", 'several shards keep one pace: wire it to an actor of role "rate_limiter"'
        if wired and cast(ReplayConfig, spec.config).samples_per_insert is not None:
            yield (
                "config.samples_per_insert",
                "the pace is the rate limiter's, at ports.limiter: set it there",
            )
        yield from redis_faults(spec, list(specs))

    @classmethod
    def machine_faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        if config.store == "redis":
            if missing := missing_packages():
                yield "config.store", missing
            yield from ((f"config.redis.{key}", sentence) for key, sentence in config.redis.machine_faults())

    @classmethod
    def memory(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, int]]:
        config = cast(Replay.Config, spec.config)
        explorers = explorers_of(spec.name, specs.values())
        return replay_memory(config, explorers, in_redis=config.store == "redis")

    @classmethod
    def state_faults(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[tuple[str, str]]:
        saved = "memory" if "store" in state["replay"] else "redis"
        if saved != config.store:
            yield "config.store", f"is {config.store}, but the saved replay was in {saved}"
        yield from ((f"config.{key}", sentence) for key, sentence in config.state_faults(state["replay"]))

    async def on_start(self) -> None:
        self._gate = Gate(self.config, self.event) if self.limiter is None else None
        self._draws = Turnstile(self._may_draw, self.event)
        self._batches = 0
        self._newest = Version(0, 0)
        self._stopping = False
        self._holding = await self._hold()

    async def _hold(self) -> Holding:
        if self.config.store == "redis":
            in_redis = InRedis(self, self.config, self.config.redis, self.redis)
            await in_redis.open(self._withdraw)
            return in_redis
        # In a thread: a prioritized index compiles its tree when it is first made on a machine.
        return InMemory(await self.in_thread(partial(make_replay, self.config, seed=self.seed)))

    @property
    def _replay(self) -> buffer.Replay | RedisReplay:
        return self._holding.replay

    @handles(concurrent=1024)
    async def insert(self, request: Insert) -> Inserted:
        count = len(request.chunk)
        await self._admit_insert(count)
        try:
            ids = await self._holding.add(request.chunk)
        except ValueError as error:
            await self._withdraw(count)
            raise Refused(str(error)) from error
        except Refused:
            await self._withdraw(count)
            raise
        self._report_insert(request.version)
        self._draws.advance()
        return Inserted(ids.start, count)

    @handles(concurrent=64)
    async def sample(self, request: Sample) -> Sampled | Located:
        if self._stopping:
            raise Refused(STOPPING)
        if request.missing is not None:
            self._holding.doubt(request.missing)
        self._newest = request.version
        admit = request.count if request.admit is None else request.admit
        if admit:
            await self._admit_sample(admit)
        return await self._draws.pass_through(request.count, partial(self._draw, request))

    @handles
    async def update_priorities(self, message: UpdatePriorities) -> None:
        try:
            late = self._replay.update(message.ids, message.priorities)
        except ValueError as error:
            raise Refused(str(error)) from error
        self.observe("priority", message.priorities)
        if late:
            self.progress("late_priorities", late)

    def _may_draw(self, count: int) -> bool:
        return count == 0 or len(self._replay) > 0

    def _draw(self, request: Sample) -> Sampled | Located:
        beta = self.config.beta(self._batches)
        self._batches += request.batches
        drawn = self._holding.draw(request.count, beta)
        self.observe("age", self._replay.next_id - 1 - drawn.ids)
        return drawn

    def _report_insert(self, version: Version) -> None:
        self.report("replay_size", len(self._replay))
        if self._gate is not None:
            self._gate.report(self)
        if version.incarnation == self._newest.incarnation and not self._stopping:
            self.observe("weights_staleness", max(0, self._newest.updates - version.updates))

    # The pace: one's own, or that of all shards.

    async def _admit_insert(self, count: int) -> None:
        if self._gate is not None:
            await self._gate.insert(count)
        elif self.limiter is not None:
            await self.limiter.ask(AdmitInsert(count))

    async def _admit_sample(self, count: int) -> None:
        if self._gate is not None:
            await self._gate.sample(count)
        elif self.limiter is not None:
            await self.limiter.ask(AdmitSample(count))

    async def _withdraw(self, count: int) -> None:
        if self._gate is not None:
            self._gate.withdraw(count)
        elif self.limiter is not None:
            await self.limiter.tell(Withdraw(count))

    def on_drain(self) -> None:
        self._stopping = True
        if self._gate is not None:
            self._gate.drain()
        self._draws.turn_back(Refused(STOPPING))
        self._holding.drain()

    async def on_stop(self) -> None:
        await self._holding.stop()

    def state(self) -> State:
        return {
            "replay": self._replay.state(),
            "gate": None if self._gate is None else self._gate.state(),
            "batches": self._batches,
        }

    def load_state(self, state: State) -> None:
        self._replay.load_state(state["replay"])
        if self._gate is not None and state["gate"] is not None:
            self._gate.load_state(state["gate"])
        self._batches = state["batches"]


def redis_faults(spec: ActorSpec, order: list[str]) -> Iterable[tuple[str, str]]:
    """What is wrong with where this shard is to find Redis. `order`: of all actors' starts."""
    config = cast(Replay.Config, spec.config)
    wired, given = spec.ports.get("redis"), config.redis.url is not None
    if config.store == "memory":
        if wired:
            yield "ports.redis", 'is for store = "redis"'
        return
    if not wired and not given:
        yield (
            "ports.redis",
            'store = "redis" needs to know which: wire it to an actor of role "redis_server", or set'
            " config.redis.url",
        )
    if not wired:
        return
    if given:
        yield "config.redis.url", "Redis is the actor at ports.redis: leave one of them out"
    for field in ("keep", "password_env"):
        if getattr(config.redis, field):
            yield f"config.redis.{field}", f"is for a Redis at a url; {wired[0]} has settings of its own"
    if order.index(wired[0]) > order.index(spec.name):
        yield "ports.redis", f"{wired[0]} has to come earlier in the file: actors start in its order"
