"""Reads sampled transitions from Redis for a replay client; missing samples are drawn again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, ActorDied, Group
from actorq.actors.sync import Semaphore
from actorq.replay.chunk import Sample
from actorq.replay.redis.connection import RedisDownError, backoff
from actorq.replay.redis.reader import MissingError, RedisReader
from actorq.replay.redis.sample_refs import SampleRefs

from .messages import DrawSample, UpdatePriorities, Version

log = logging.getLogger("actorq.roles")

NOTHING_MISSING = np.empty(0, np.int64)


class RedisReading:
    """Reads in a thread, waits while Redis is down, and uses the address that the shards report."""

    def __init__(self, actor: Actor, shards: Group[DrawSample | UpdatePriorities]) -> None:
        self._actor, self._shards = actor, shards
        self._reader: RedisReader | None = None
        self._one_at_a_time = Semaphore(actor, 1)

    async def read(self, refs: Sequence[SampleRefs], version: Version) -> tuple[Sequence[SampleRefs], Sample]:
        """Read the transitions of all shards' `refs`, in order; returns them and the refs that were read in
        the end: samples with missing chunks are drawn again, and counted as `vanished`.

        A sample drawn again is not admitted again. Calls read one after another, in their order. Raises
        Refused when the run stops. Cancelled, a read in a thread runs to its end.
        """
        async with self._one_at_a_time:
            if self._reader is None:
                self._reader = RedisReader()
                self._actor.start_soon(self._close_at_the_end)
            failures = vanished = 0
            while True:
                try:
                    cached = self._reader.cached(refs)
                    if cached is not None:
                        return refs, cached
                    return refs, await self._actor.in_thread(self._reader.read, refs)
                except MissingError as error:
                    missing = [each.chunks[np.isin(each.chunks, list(error.names))] for each in refs]
                    self._actor.progress("vanished", sum(map(len, missing)))
                    if vanished:  # the shard hasn't detected it yet
                        await self._actor.sleep(backoff(vanished - 1))
                    vanished += 1
                    refs = await self._draw_again(refs, missing, version)
                except RedisDownError as error:
                    if not failures:
                        log.warning("%s waits for Redis: %s", self._actor.name, error)
                    await self._actor.sleep(backoff(failures))
                    failures += 1
                    refs = await self._draw_again(refs, [NOTHING_MISSING] * len(refs), version)

    async def _draw_again(
        self, refs: Sequence[SampleRefs], missing: Sequence[NDArray[np.int64]], version: Version
    ) -> Sequence[SampleRefs]:
        """`missing`: for each shard, the chunks [n] that were not in Redis."""
        requests = [
            DrawSample(len(each), version, 0, 0, missing=names, shard=number)
            for number, (each, names) in enumerate(zip(refs, missing, strict=True))
        ]
        while True:
            try:
                replies = await self._shards.all().ask_each(requests)
            except ActorDied:  # ask the next incarnation
                await self._actor.sleep(0)
                continue
            return [reply.sample for reply in replies if isinstance(reply.sample, SampleRefs)]

    async def _close_at_the_end(self) -> None:
        try:
            await self._actor.event().wait()
        finally:
            assert self._reader is not None
            self._reader.close()
