"""The memory: takes chunks in, gives batches out, and holds the one back for the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import actorq.actors as actors
from actorq.actors import Refused, State, handles
from actorq.replay.config import ReplayConfig
from actorq.replay.experience import Batch
from actorq.replay.limiter import RateLimiter

from .messages import Insert, Inserted, Sample, Sampled, UpdatePriorities, Version
from .turnstile import Turnstile

STOPPING = "the run is stopping"


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

    @classmethod
    def state_faults(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[tuple[str, str]]:
        return ((f"config.{field}", sentence) for field, sentence in config.state_faults(state["replay"]))

    async def on_start(self) -> None:
        from actorq.replay import make_replay

        # In a thread: a prioritized index compiles its tree when it is first made on a machine.
        self._replay = await self.in_thread(partial(make_replay, self.config, seed=self.seed))
        self._limiter = self._make_limiter()
        self._inserts = Turnstile(self._may_insert, self.event)
        self._samples = Turnstile(self._may_sample, self.event)
        self._inserted = self._batches = 0
        self._newest = Version(0, 0)
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
        self._check_passable(count * (self._limiter.samples_per_insert if self._limiter else 0.0))
        ids = await self._inserts.pass_through(count, partial(self._insert, request, count))
        self._advance()
        return Inserted(ids.start, count)

    @handles(concurrent=64)
    async def sample(self, request: Sample) -> Sampled:
        if self._stopping:  # nobody waits for it any more, and the state goes on from what was learned
            raise Refused(STOPPING)
        self._newest = request.version
        size = request.batch_size * request.batches
        self._check_passable(size)
        batch = await self._samples.pass_through(size, partial(self._sample, size, request.batches))
        self._advance()
        return Sampled(batch)

    @handles
    async def update_priorities(self, message: UpdatePriorities) -> None:
        try:
            late = self._replay.update(message.ids, message.priorities)
        except ValueError as error:
            raise Refused(str(error)) from error
        if late:
            self.progress("late_priorities", late)

    def _may_insert(self, count: int) -> bool:
        return self._limiter is None or self._stopping or self._limiter.can_insert(count)

    def _may_sample(self, count: int) -> bool:
        if self._limiter is None:
            return self._inserted >= self.config.min_size
        return self._limiter.can_sample(count)

    def _insert(self, request: Insert, count: int) -> range:
        try:
            ids = self._replay.add(request.chunk)
        except ValueError as error:
            raise Refused(str(error)) from error
        self._inserted += count
        if self._limiter is not None:
            self._limiter.inserted(count)
            self.report("limiter_error", self._limiter.error)
        self.report("replay_size", len(self._replay))
        if request.version.incarnation == self._newest.incarnation and not self._stopping:
            self.report("staleness", max(0, self._newest.updates - request.version.updates))
        return ids

    def _sample(self, size: int, batches: int) -> Batch:
        batch = self._replay.sample(size, self.config.beta(self._batches))
        self._batches += batches
        if self._limiter is not None:
            self._limiter.sampled(size)
        return batch

    def _advance(self) -> None:
        """Let through whom the last insert or sample has made room for."""
        while self._inserts.advance() or self._samples.advance():
            pass

    def _check_passable(self, samples: float) -> None:
        """Widen the limiter's bounds to what one chunk or batch takes, or nothing would ever move."""
        limiter = self._limiter
        if limiter is not None and samples > limiter.error_buffer:
            if self.config.error_buffer_samples is not None:
                raise Refused(
                    f"one chunk or batch takes {samples:g} samples, more than error_buffer_samples = "
                    f"{limiter.error_buffer:g}: make it at least {samples:g}"
                )
            limiter.error_buffer = samples

    def on_drain(self) -> None:
        self._stopping = True
        self._inserts.advance()
        self._samples.turn_back(Refused(STOPPING))

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
