"""Actor with a Redis server of the run's own, for the data of replay shards."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

import actorq.actors as actors
from actorq.actors import SettingProblem, handles
from actorq.replay.redis import server
from actorq.replay.redis.config import bytes_of

from .messages import RedisAddress, WhereIsRedis

log = logging.getLogger("actorq.roles")

BACKOFF_SECONDS = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Pauses before the server is restarted, by the number of deaths soon after a start."""

SOON_SECONDS = 10.0


class RedisServer(actors.Actor):
    """Starts a Redis server on a private Unix socket, restarts it when it dies, and ends it with the run.

    Its readers and writers must run on this host. With `keep`, a run that names the same folder continues
    with the data; without it they end with the server.
    """

    class Config(actors.Config):
        keep: (
            Annotated[
                str,
                Meta(
                    min_length=1,
                    description="folder of an append-only file: the data outlive the run",
                    extra={"words": "a folder's path"},
                ),
            ]
            | None
        ) = None
        append_sync: Annotated[
            server.AppendSync,
            Meta(
                description="when the kept file is forced to the disk. always: before anything is"
                " acknowledged; everysec: the last second or two may be lost"
            ),
        ] = "everysec"
        maxmemory: Annotated[str, Meta(description='bound on its memory, such as "200mb"; 0: no bound')] = "0"

    @classmethod
    def real_time(cls, config: Any) -> str:
        return "a server's answers come when they come"

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        try:
            bytes_of(config.maxmemory)
        except ValueError as error:
            yield "config.maxmemory", str(error)

    @classmethod
    def machine_problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        if server.find_server() is None:
            yield "role", server.NO_SERVER

    async def on_start(self) -> None:
        self._server = server.RedisServerProcess(
            keep=None if self.config.keep is None else Path.cwd() / self.config.keep,
            append_sync=self.config.append_sync,
            maxmemory=bytes_of(self.config.maxmemory),
        )
        self._started = self.event()
        self.start_soon(self._serve)
        await self._started.wait()

    @handles
    async def where_is_redis(self, _: WhereIsRedis) -> RedisAddress:
        return RedisAddress(self._server.url, self.config.keep is not None)

    async def _serve(self) -> None:
        """Serve until the actor ends."""
        try:
            await self._server.start()
            self._started.set()
            short_incarnations = 0
            while True:
                began = self.now()
                last_words = await self._server.ended()
                log.warning(
                    "%s: redis-server died and is started again; its last output: %s", self.name, last_words
                )
                self.progress("redis_restarts")
                short_incarnations = short_incarnations + 1 if self.now() - began < SOON_SECONDS else 0
                await self.sleep(BACKOFF_SECONDS[min(short_incarnations, len(BACKOFF_SECONDS) - 1)])
                await self._server.start()
        finally:
            await self._server.stop()
