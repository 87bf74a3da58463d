"""Rate limiter: keeps the ratio of samples to inserts within bounds; its queues; the actor that shards share.

After Reverb's SampleToInsertRatio (Cassirer et al., "Reverb: A Framework for Experience Replay", arXiv
2102.04736, section 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import actorq.actors as actors
from actorq.actors import Refused, SettingProblem, State, Stopping, handles
from actorq.actors.sync import AdmissionQueue
from actorq.replay.config import LimiterConfig

from .messages import AdmitInsert, AdmitSample, Withdraw


class RateLimiter:
    """Decides whether an insert or a sample may happen now. It counts and never blocks.

    With I transitions inserted and S sampled so far, its *error* is the number of samples that inserts allow
    and that were not taken yet, from the moment at which sampling could begin::

        error = samples_per_insert * (I - min_size) - S

    A sample of B may happen once I >= min_size if it leaves the error at -error_buffer or more; an insert if
    it leaves the error at error_buffer or less. So the error stays within the buffer once sampling has begun,
    and S/I tends to samples_per_insert.

    Requests larger than the buffer are refused with `ValueError`, since they could wait for ever: as long as
    N * samples_per_insert and B are at most error_buffer, at least one side may always proceed.
    """

    def __init__(self, *, samples_per_insert: float | None, min_size: int, error_buffer: float) -> None:
        """``min_size`` in transitions, ``error_buffer`` in samples; a sample is one transition of a batch.

        Without ``samples_per_insert`` inserts may always happen, and samples once I >= min_size.
        """
        if samples_per_insert is None:
            samples_per_insert, error_buffer = 0.0, math.inf
        elif not samples_per_insert > 0.0:
            raise ValueError(f"samples_per_insert is {samples_per_insert}; it must be above 0")
        if min_size < 1:
            raise ValueError(f"min_size is {min_size}; it must be at least one transition")
        if not error_buffer >= max(1.0, samples_per_insert):
            raise ValueError(
                f"error_buffer is {error_buffer} samples; with {samples_per_insert:g} samples per insert"
                f" nothing could move unless it is at least {max(1.0, samples_per_insert):g}"
            )
        self.samples_per_insert = samples_per_insert
        self.min_size = min_size
        self.error_buffer = error_buffer
        self._inserted = 0
        self._sampled = 0

    @property
    def error(self) -> float:
        """Samples allowed and not yet taken (negative: taken in advance, or sampling could not begin yet)."""
        return self._error(0)

    @property
    def ratio(self) -> float | None:
        """Samples per insert so far; None before the first insert."""
        return self._sampled / self._inserted if self._inserted else None

    def can_insert(self, count: int) -> bool:
        """Whether ``count`` transitions may be inserted now. Raises `ValueError` if they never may."""
        if count * self.samples_per_insert > self.error_buffer:
            raise ValueError(self._too_large(f"an insert of {count}", count * self.samples_per_insert))
        return self._error(count) <= self.error_buffer

    def can_sample(self, count: int) -> bool:
        """Whether ``count`` transitions may be sampled now. Raises `ValueError` if they never may."""
        if count > self.error_buffer:
            raise ValueError(self._too_large(f"a sample of {count}", count))
        return self._inserted >= self.min_size and self._error(0) - count >= -self.error_buffer

    def inserted(self, count: int) -> None:
        """Count ``count`` inserted transitions."""
        self._inserted += count

    def sampled(self, count: int) -> None:
        """Count ``count`` sampled transitions."""
        self._sampled += count

    def state(self) -> dict[str, Any]:
        """The counts so far."""
        return {"inserted": self._inserted, "sampled": self._sampled}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore counts returned by `state`."""
        self._inserted = state["inserted"]
        self._sampled = state["sampled"]

    def _error(self, more: int) -> float:
        return self.samples_per_insert * (self._inserted + more - self.min_size) - self._sampled

    def _too_large(self, what: str, samples: float) -> str:
        return (
            f"{what} transitions moves the error by {samples:g} samples, but error_buffer is"
            f" {self.error_buffer:g}: it could wait for ever; make it smaller, or error_buffer larger"
        )


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
