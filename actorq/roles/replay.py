"""The memory: takes chunks in, gives batches out, and holds the one back for the other."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import actorq.actors as actors
from actorq.actors import Refused, State, handles
from actorq.replay.config import ReplayConfig
from actorq.replay.limiter import RateLimiter

from .messages import Insert, Inserted, Sample, Sampled, UpdatePriorities, Version

log = logging.getLogger("actorq.roles")


class Replay(actors.Actor):
    """A replay in memory, uniform or prioritized, behind a rate limiter.

    Inserts and samples wait beside each other, each for what the limiter asks of the other; new priorities
    come by id, and those that come too late are ignored and counted.
    """

    class Config(ReplayConfig, actors.Config, frozen=True, kw_only=True):
        pass

    @classmethod
    def faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return ((f"config.{field}", sentence) for field, sentence in config.faults())

    async def on_start(self) -> None:
        from actorq.replay.buffer import Replay as Buffer
        from actorq.replay.store import MemoryStore
        from actorq.replay.uniform import UniformIndex

        config = self.config
        if config.sampling == "uniform":
            self._replay = Buffer(MemoryStore(config.capacity), UniformIndex(config.capacity), seed=self.seed)
        else:
            from actorq.replay.priorities import PrioritizedIndex

            index = PrioritizedIndex(config.capacity, alpha=config.alpha, epsilon=config.epsilon)
            self._replay = Buffer(MemoryStore(config.capacity), index, seed=self.seed)
        self._limiter = self._make_limiter()
        self._inserted = self._batches = 0
        self._newest = Version(0, 0)
        self._moved = self.event()
        self._stopping = False

    def _make_limiter(self) -> RateLimiter | None:
        config = self.config
        if config.samples_per_insert is None:
            return None
        return RateLimiter(
            samples_per_insert=config.samples_per_insert,
            min_size=config.min_size,
            error_buffer=config.error_buffer,
        )

    @handles(concurrent=1024)
    async def insert(self, request: Insert) -> Inserted:
        count = len(request.chunk)
        if self._limiter is not None:
            self._make_room_for(count * self._limiter.samples_per_insert)
            while not (self._stopping or self._limiter.can_insert(count)):
                await self._moved.wait()
            self._limiter.inserted(count)
        try:
            ids = self._replay.add(request.chunk)
        except ValueError as error:
            raise Refused(str(error)) from error
        self._inserted += count
        self._note_staleness(request.version)
        self._wake()
        return Inserted(ids.start, count)

    @handles(concurrent=64)
    async def sample(self, request: Sample) -> Sampled:
        size = request.batch_size
        self._newest = request.version
        if self._limiter is not None:
            self._make_room_for(size)
        while not self._can_sample(size):
            if self._stopping:
                raise Refused("the run is stopping")
            await self._moved.wait()
        if self._limiter is not None:
            self._limiter.sampled(size)
            self._wake()
        self._batches += 1
        return Sampled(self._replay.sample(size, self.config.beta(self._batches)))

    @handles
    async def update_priorities(self, message: UpdatePriorities) -> None:
        try:
            self._replay.update(message.ids, message.priorities)
        except ValueError as error:
            raise Refused(str(error)) from error

    def _can_sample(self, size: int) -> bool:
        if self._limiter is None:
            return self._inserted >= self.config.min_size
        return self._limiter.can_sample(size)

    def _make_room_for(self, samples: float) -> None:
        """Widen the limiter's bounds to what one chunk or batch takes, or nothing would ever move."""
        limiter = self._limiter
        if limiter is not None and samples > limiter.error_buffer:
            if self.config.error_buffer_samples is not None:
                raise Refused(
                    f"one chunk or batch takes {samples:g} samples, more than error_buffer_samples = "
                    f"{limiter.error_buffer:g}: make it at least {samples:g}"
                )
            limiter.error_buffer = samples

    def _wake(self) -> None:
        """Whoever waits for the limiter looks again."""
        self._moved.set()
        self._moved = self.event()

    def _note_staleness(self, version: Version) -> None:
        if version.incarnation == self._newest.incarnation:
            self.report("staleness", max(0, self._newest.updates - version.updates))
        self.report("replay_size", len(self._replay))
        if self._limiter is not None:
            self.report("limiter_error", self._limiter.error)

    def on_drain(self) -> None:
        self._stopping = True
        self._wake()

    def state(self) -> State:
        limiter = self._limiter.state() if self._limiter is not None else None
        return {
            "replay": self._replay.state(),
            "limiter": limiter,
            "inserted": self._inserted,
            "batches": self._batches,
        }

    def load_state(self, state: State) -> None:
        self._replay.load_state(state["replay"])
        if self._limiter is not None and state["limiter"] is not None:
            self._limiter.load_state(state["limiter"])
        self._inserted, self._batches = state["inserted"], state["batches"]
