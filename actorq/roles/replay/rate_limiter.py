"""Rate limiter: the queues of inserts and samples that wait for it, and the actor that several replay shards
share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import actorq.actors as actors
from actorq.actors import Refused, SettingProblem, State, Stopping, handles
from actorq.actors.sync import AdmissionQueue
from actorq.replay.config import LimiterConfig
from actorq.replay.rate_limiter import RateLimiter

from .messages import AdmitInsert, AdmitSample, Withdraw


class RateLimitGate:
    """Queues of inserts and samples, first in first out, that the rate limiter admits and counts.

    Without `samples_per_insert` inserts never wait, and samples only for the first `min_size` inserts.
    """

    def __init__(self, actor: actors.Actor, config: LimiterConfig) -> None:
        self._actor, self._config = actor, config
        self._limiter = RateLimiter(
            samples_per_insert=config.samples_per_insert,
            min_size=config.min_size,
            error_buffer=config.error_buffer,
        )
        self._inserts = AdmissionQueue(actor, self._may_insert)
        self._samples = AdmissionQueue(actor, self._limiter.can_sample)
        self._stopping = False

    def report(self) -> None:
        """Report samples per insert so far and the limiter's error, in samples."""
        if self._limiter.ratio is not None:
            self._actor.report("replay_ratio", self._limiter.ratio)
        if self._config.samples_per_insert is not None:
            self._actor.report("limiter_error", self._limiter.error)

    async def insert(self, count: int, *, at_once: bool = False) -> None:
        """Wait until `count` transitions may be inserted, and count them. Cancelled, they are not counted.

        `at_once`: the replay is empty, so that waiting for samples might never end. Raises Refused if they
        could never be inserted.
        """
        self._check_passable(count * self._limiter.samples_per_insert)
        if at_once:
            self._limiter.inserted(count)
        else:
            await self._inserts.pass_through(count, partial(self._limiter.inserted, count))
        self._advance()

    async def sample(self, count: int) -> None:
        """The same for samples; raises Stopping when the run stops."""
        self._check_passable(count)
        await self._samples.pass_through(count, partial(self._limiter.sampled, count))
        self._advance()

    def relieve(self) -> None:
        """Admit the first waiting insert: a learner waits for a replay that has become empty."""
        if self._inserts.first:
            self.withdraw(self._inserts.first)

    def withdraw(self, count: int) -> None:
        """Subtract `count` transitions that were admitted and not inserted after all."""
        self._limiter.inserted(-count)
        self._advance()

    def drain(self) -> None:
        """The run is stopping: admit all inserts and no samples."""
        self._stopping = True
        self._inserts.advance()
        self._samples.close(Stopping())

    def _may_insert(self, count: int) -> bool:
        return self._stopping or self._limiter.can_insert(count)

    def _advance(self) -> None:
        """Admit all that the last insert or sample has made room for."""
        while self._inserts.advance() or self._samples.advance():
            pass

    def _check_passable(self, samples: float) -> None:
        """Widen the limiter's bounds to the size of a chunk or batch, which would otherwise wait for ever."""
        limiter = self._limiter
        if samples > limiter.error_buffer:
            if self._config.error_buffer_samples is not None:
                raise Refused(
                    f"one chunk or batch takes {samples:g} samples, more than error_buffer_samples = "
                    f"{limiter.error_buffer:g}: make it at least {samples:g}"
                )
            limiter.error_buffer = samples

    def state(self) -> State:
        return self._limiter.state()

    def load_state(self, state: State) -> None:
        self._limiter.load_state(state)


class RateLimiterActor(actors.Actor):
    """Rate limiter of several replay shards: admits the inserts and samples of all of them together.

    Admitted transitions count at once. Those that a shard can't store are withdrawn; those admitted for a
    shard that died stay counted, one chunk at most.
    """

    class Config(LimiterConfig, actors.Config, frozen=True, kw_only=True):
        pass

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        return ((f"config.{field}", sentence) for field, sentence in config.problems())

    async def on_start(self) -> None:
        self._gate = RateLimitGate(self, self.config)

    @handles(concurrent=1024)
    async def admit_insert(self, request: AdmitInsert) -> None:
        await self._gate.insert(request.count, at_once=request.at_once)
        self._gate.report()

    @handles(concurrent=64)
    async def admit_sample(self, request: AdmitSample) -> None:
        await self._gate.sample(request.count)

    @handles
    async def withdraw(self, message: Withdraw) -> None:
        self._gate.withdraw(message.count)

    def on_drain(self) -> None:
        self._gate.drain()

    def state(self) -> State:
        return self._gate.state()

    def load_state(self, state: State) -> None:
        self._gate.load_state(state)
