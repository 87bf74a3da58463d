"""Shards in Redis, with the run's own server and a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actorq.actors import Actor, ActorSpec, Group, Message, Request, System, handles
from actorq.actors.spec import derive_seed
from actorq.replay.chunk import Batch
from actorq.replay.redis.config import RedisConfig
from actorq.roles.replay.client import ReplayClient
from actorq.roles.replay.messages import DrawSample, Insert, UpdatePriorities, Version, WhereIsRedis
from actorq.roles.replay.rate_limiter import RateLimiterActor
from actorq.roles.replay.redis_server import RedisServer
from tests.actors.world import spec

from .shards import AT_FIRST, Crash, Mortal, Settled, names_of, numbered

RUN = "trial"


class MortalServer(RedisServer):
    """A server's actor that crashes when told to."""

    @handles
    async def crash(self, _: Crash) -> Settled:
        raise RuntimeError("told to crash")


class Batches(Message):
    batch: Batch


class DrawBatch(Request[Batches]):
    count: int


class Reading(Actor):
    """A learner's way of reading, at a test's command."""

    replay: Group[DrawSample | UpdatePriorities]

    async def on_start(self) -> None:
        self._reader = ReplayClient(self.replay, self.seed, self)

    @handles(concurrent=4)
    async def draw(self, request: DrawBatch) -> Batches:
        return Batches(await self._reader.draw(request.count, 1, AT_FIRST))


def in_redis(
    shards: int = 1,
    *,
    url: str | None = None,
    keep: Path | bool | None = None,
    append_sync: str = "always",
    maxmemory: str = "0",
    node: str = "main",
    snapshot_every_seconds: float | None = None,
    **config: Any,
) -> list[ActorSpec]:
    """The limiter, the run's own server unless there is a `url`, the shards and who reads them."""
    names = names_of(shards)
    settings = RedisServer.Config(
        keep=str(keep) if isinstance(keep, Path) else None,
        append_sync=append_sync,  # type: ignore[arg-type]
        maxmemory=maxmemory,
    )
    redis = RedisConfig() if url is None else RedisConfig(url=url, keep=keep is True)
    given: dict[str, Any] = {"capacity": 1000, "min_size": 1, "store": "redis", "redis": redis, **config}
    server = [spec("redis", MortalServer, config=settings)] if url is None else []
    return [
        spec("limiter", RateLimiterActor, config=RateLimiterActor.Config(min_size=1)),
        *server,
        *(
            spec(
                name,
                Mortal,
                {"limiter": "limiter", **({"redis": "redis"} if server else {})},
                Mortal.Config(**given),
                index=index,
                count=shards,
                seed=derive_seed(0, name),
                run_name=RUN,
                node=node,
                snapshot_every_seconds=snapshot_every_seconds,
            )
            for index, name in enumerate(names)
        ),
        spec("reader", Reading, {"replay": names}),
    ]


def insert(transitions: int, start: int, version: Version = AT_FIRST) -> Insert:
    return Insert(numbered(transitions, start), version)


async def url_of(system: System) -> str:
    address = await system.ref("redis").ask(WhereIsRedis())
    assert isinstance(address.url, str)
    return address.url
