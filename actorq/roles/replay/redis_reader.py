"""A learner's way to Redis: what shards have located is read there, and drawn again if it is gone."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, ActorDied, Group
from actorq.replay.chunk import Transitions
from actorq.replay.redis.connection import RedisDownError, backoff
from actorq.replay.redis.reader import MissingError, ReadPart, RedisReader

from .admission_queue import AdmissionQueue
from .messages import Sample, SampledRefs, UpdatePriorities, Version

log = logging.getLogger("actorq.roles")

NONE = np.empty(0, np.int64)


class RedisReading:
    """Reads in a thread, waits for a Redis that is down, and goes where the shards say that it is now."""

    def __init__(self, actor: Actor, shards: Group[Sample | UpdatePriorities]) -> None:
        self._actor, self._shards = actor, shards
        self._reader: RedisReader | None = None
        self._line = AdmissionQueue(lambda _: not self._busy, actor.event)
        self._busy = False

    async def read(
        self, located: Sequence[SampledRefs], version: Version
    ) -> tuple[Sequence[SampledRefs], Transitions]:
        """The transitions of all shards' draws, in order, and the draws: those of which something was gone
        are made again, counted as `vanished`.

        A draw that is made again is not admitted again. One call at a time reads, in their order. Raises
        Refused when the run stops. Cancelled, the thread ends by itself.
        """
        await self._line.pass_through(1, self._begin)
        try:
            return await self._read(located, version)
        finally:
            self._busy = False
            self._line.advance()

    def _begin(self) -> None:
        self._busy = True

    async def _read(
        self, located: Sequence[SampledRefs], version: Version
    ) -> tuple[Sequence[SampledRefs], Transitions]:
        if self._reader is None:
            self._reader = RedisReader()
            self._actor.start_soon(self._close_at_the_end)
        failures = vanished = 0
        while True:
            parts = [ReadPart(each.place, each.chunks, each.rows) for each in located]
            try:
                in_progress = self._reader.in_progress(parts)
                if in_progress is not None:
                    return located, in_progress
                return located, await self._actor.in_thread(self._reader.read, parts)
            except MissingError as error:
                missing = [each.chunks[np.isin(each.chunks, list(error.names))] for each in located]
                self._actor.progress("vanished", sum(map(len, missing)))
                if vanished:  # the shard is still finding out
                    await self._actor.sleep(backoff(vanished - 1))
                vanished += 1
                located = await self._draw_again(located, missing, version)
            except RedisDownError as error:
                if not failures:
                    log.warning("%s waits for Redis: %s", self._actor.name, error)
                await self._actor.sleep(backoff(failures))
                failures += 1
                located = await self._draw_again(located, [NONE] * len(located), version)

    async def _draw_again(
        self, located: Sequence[SampledRefs], missing: Sequence[NDArray[np.int64]], version: Version
    ) -> Sequence[SampledRefs]:
        samples = [
            Sample(len(each.ids), version, 0, 0, missing=names)
            for each, names in zip(located, missing, strict=True)
        ]
        while True:
            try:
                replies = await self._shards.all().ask_each(samples)
            except ActorDied:  # its next life is asked
                await self._actor.sleep(0)
                continue
            return [reply for reply in replies if isinstance(reply, SampledRefs)]

    async def _close_at_the_end(self) -> None:
        try:
            await self._actor.event().wait()
        finally:
            assert self._reader is not None
            self._reader.close()
