"""Redis writer of a shard: waiting chunks are written together, and acknowledged when Redis has them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from actorq.actors import Actor, ActorDied, Fatal, Stopping
from actorq.actors.sync import Future
from actorq.replay.chunk import Chunk
from actorq.replay.redis.config import Place
from actorq.replay.redis.connection import RedisDownError, RedisFullError, backoff
from actorq.replay.redis.replay import RedisReplay
from actorq.replay.redis.store import LostError, NotOursError

log = logging.getLogger("actorq.roles")

T = TypeVar("T")

MOST_BYTES = 64 * 2**20
"""Bound on the frames written with one pipeline, if it is more than one chunk."""


class RedisWriter:
    """Owns the shard's chunks in Redis. While Redis is down, inserts wait, each with one chunk."""

    def __init__(self, actor: Actor, replay: RedisReplay, place: Callable[[], Awaitable[Place]]) -> None:
        """`place` returns the present address of Redis."""
        self._actor, self._replay, self._find = actor, replay, place
        self._waiting: deque[tuple[Chunk, Future[range]]] = deque()
        """Chunks to be written, each with the ids of its transitions."""
        self._came = actor.event()
        self._must_reopen = self._must_move = False
        self._down = False
        self._stopping = self._over = False

    async def open(self, *, afresh: bool) -> None:
        """Load the shard's data from Redis, or delete them, once Redis is reachable; then begin to write."""
        await self._open(afresh=afresh)
        self._actor.start_soon(self._serve)

    async def add(self, chunk: Chunk) -> range:
        """Write a chunk; returns the ids of its transitions when Redis has them.

        Raises ValueError if the chunk is invalid, and Refused if the run stops while Redis is down.
        Cancelled, it may still be written.
        """
        self._replay.expect_right(chunk)
        if self._stopping and self._down:
            raise Stopping
        ids = Future[range](self._actor)
        self._waiting.append((chunk, ids))
        self._came.set()
        return await ids.wait()

    def report_missing(self, *, data_lost: bool) -> None:
        """A reader found Redis unreachable, or with `data_lost` chunks missing that should be there: look up
        the address again, or with `data_lost` read again what is stored."""
        self._must_reopen = self._must_reopen or data_lost
        self._must_move = True
        self._came.set()

    def drain(self) -> None:
        """The run is stopping: no longer wait for Redis."""
        self._stopping = True
        if self._down:
            self._refuse_waiting()

    async def delete(self) -> None:
        """Delete the shard's data in Redis, unless Redis is down, or another run owns them now.

        Chunks that are being written are deleted, too, and nothing is written afterwards. Cancelled, a thread
        continues.
        """
        self._over = True
        if self._down:
            return
        with suppress(RedisDownError, NotOursError, LostError):
            await self._actor.in_thread(self._replay.store.delete)

    async def _serve(self) -> None:
        """Serve until the actor ends."""
        try:
            while True:
                try:
                    if self._over:
                        await self._actor.event().wait()
                    elif self._must_reopen:
                        self._must_move = False
                        await self._open(afresh=False)
                        self._must_reopen = False  # covers reports that arrived meanwhile
                    elif self._must_move:
                        self._must_move = False
                        await self._move()
                    elif self._waiting:
                        await self._write()
                    else:
                        self._came = self._actor.event()
                        await self._came.wait()
                except LostError:
                    self._must_reopen = True
        finally:
            self._replay.store.close()

    async def _open(self, *, afresh: bool) -> None:
        await self._move()
        contents = await self._persist(partial(self._replay.read, afresh=afresh))
        lost = self._replay.adopt(contents)
        if lost:
            log.warning("%s: %d transitions acknowledged by Redis are lost", self._actor.name, lost)

    async def _write(self) -> None:
        """Write waiting chunks, as many as go in one pipeline, and acknowledge them. Raises LostError."""
        waiting = list(self._waiting)
        write = self._replay.plan(_first([chunk for chunk, _ in waiting]))
        await self._persist(partial(self._replay.store.write, write), write.chunks[0])
        self._replay.commit(write)
        for (_, ids), record in zip(waiting, write.records, strict=False):
            if self._waiting:  # otherwise it was refused meanwhile
                self._waiting.popleft()
            ids.set(self._replay.ids_of(record))

    async def _persist(self, call: Callable[[], T], chunk: Chunk | None = None) -> T:
        """The result of `call`, repeated in a thread until Redis answers. `chunk`: one of those to be
        written.
        """
        failures = 0
        while True:
            try:
                result = await self._actor.in_thread(call)
                if self._down:
                    self._down = False
                    log.warning("%s: Redis is back", self._actor.name)
                    self._actor.report("redis_down", 0.0)
                return result
            except NotOursError as error:  # a later incarnation would take it over
                raise Fatal(str(error)) from error
            except RedisDownError as error:
                self._note_down(f"Redis is down, and inserts wait for it: {error}")
            except RedisFullError as error:
                await self._expect_room(chunk)
                self._note_down(f"Redis is full, and inserts wait for room: {error}")
            await self._actor.sleep(backoff(failures))
            failures += 1
            await self._move()

    async def _move(self) -> None:
        """Get the present address of Redis."""
        try:
            place = await self._find()
        except ActorDied:  # its next incarnation will answer
            return
        self._replay.store.move(place)

    async def _expect_room(self, chunk: Chunk | None) -> None:
        """Raise Fatal if the memory of Redis is too small for the capacity."""
        if chunk is None:
            return
        try:
            most = await self._actor.in_thread(self._replay.store.memory)
        except RedisDownError:
            return
        needed = self._replay.bytes_at_capacity(chunk) * self._actor.count
        if 0 < most < needed:
            raise Fatal(
                f"Redis takes at most {most / 2**20:.0f} MB (maxmemory, noeviction), and the replay needs"
                f" about {needed / 2**20:.0f} MB at its capacity: make maxmemory larger or the capacity"
                " smaller"
            )

    def _note_down(self, sentence: str) -> None:
        if not self._down:
            self._down = True
            log.warning("%s: %s", self._actor.name, sentence)
        self._actor.report("redis_down", 1.0)
        if self._stopping:
            self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        while self._waiting:
            _, ids = self._waiting.popleft()
            ids.fail(Stopping())


def _first(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """The first chunks, with at most MOST_BYTES together, and at least one."""
    size = 0
    for count, chunk in enumerate(chunks):
        size += chunk.frames.nbytes
        if count and size > MOST_BYTES:
            return chunks[:count]
    return chunks
