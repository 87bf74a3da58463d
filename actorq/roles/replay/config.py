"""Settings of a replay shard, and their checks against the actors it is wired to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, cast

from msgspec import Meta

import actorq.actors as actors
from actorq.actors import ActorSpec, SettingProblem
from actorq.replay.config import LimiterConfig, ReplayConfig
from actorq.replay.redis.config import RedisConfig


class ShardConfig(ReplayConfig, actors.Config, frozen=True, kw_only=True):
    """Settings of a shard in a topology file."""

    store: Annotated[
        Literal["memory", "redis"], Meta(description="storage of the transitions: in the actor, or in Redis")
    ] = "memory"
    redis: Annotated[RedisConfig, Meta(description="address of Redis, and retention of the data")] = (
        RedisConfig()
    )


def pace_problems(spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
    """Problems with the rate limiter's settings: a shard has them, unless several share a rate limiter."""
    config, wired = cast(ShardConfig, spec.config), "limiter" in spec.ports
    if spec.count > 1 and not wired and _is_shared_out(spec, specs):
        problem = 'several shards share one rate limiter: wire it to an actor of role "rate_limiter"'
        yield "ports.limiter", problem
    if not wired:
        yield from ((f"config.{field}", sentence) for field, sentence in config.size_problems())
        return
    for field in LimiterConfig.__struct_fields__:
        if getattr(config, field) != getattr(LimiterConfig(), field):
            yield f"config.{field}", "the rate limiter at ports.limiter has this setting: set it there"


def _is_shared_out(spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> bool:
    """Whether an actor uses this shard and others as one replay: each group may have a shard to itself."""
    return any(
        spec.name in targets and sum(specs[target].cls is spec.cls for target in targets) > 1
        for other in specs.values()
        for targets in other.ports.values()
    )


def redis_problems(spec: ActorSpec, order: list[str]) -> Iterable[SettingProblem]:
    """Problems with the shard's address of Redis. `order`: the starting order of all actors."""
    config = cast(ShardConfig, spec.config)
    wired, given = spec.ports.get("redis"), config.redis.url is not None
    if config.store == "memory":
        if wired:
            yield "ports.redis", 'is for store = "redis"'
        return
    if not wired and not given:
        yield (
            "ports.redis",
            'store = "redis" needs an address: wire it to an actor of role "redis_server", or set'
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
