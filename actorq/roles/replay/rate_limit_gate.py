"""Admission queues in front of the rate limiter: one for inserts, one for samples."""

from __future__ import annotations

from functools import partial

from actorq.actors import Actor, Refused, State, Stopping
from actorq.actors.sync import AdmissionQueue
from actorq.replay.config import LimiterConfig
from actorq.replay.rate_limiter import RateLimiter


class RateLimitGate:
    """Lets inserts and samples wait, first in first out, until the rate limiter admits them, and counts them.

    Without `samples_per_insert` inserts never wait, and samples only for the first `min_size` inserts.
    """

    def __init__(self, actor: Actor, config: LimiterConfig) -> None:
        self._actor, self._config = actor, config
        self._limiter: RateLimiter | None = None
        if config.samples_per_insert is not None:
            self._limiter = RateLimiter(
                samples_per_insert=config.samples_per_insert,
                min_size=config.min_size,
                error_buffer=config.error_buffer,
            )
        self._inserts = AdmissionQueue(actor, self._may_insert)
        self._samples = AdmissionQueue(actor, self._may_sample)
        self._inserted = 0
        self._sampled = 0
        self._stopping = False

    def report(self) -> None:
        """Report samples per insert so far and the limiter's error, in samples."""
        if self._inserted:
            self._actor.report("replay_ratio", self._sampled / self._inserted)
        if self._limiter is not None:
            self._actor.report("limiter_error", self._limiter.error)

    async def insert(self, count: int, *, at_once: bool = False) -> None:
        """Wait until `count` transitions may be inserted, and count them. Cancelled, they are not counted.

        `at_once`: there is nothing to sample, so that waiting for samples might never end. Raises Refused if
        they could never be inserted.
        """
        self._check_passable(count * (self._limiter.samples_per_insert if self._limiter else 0.0))
        if at_once:
            self._count_inserted(count)
        else:
            await self._inserts.pass_through(count, partial(self._count_inserted, count))
        self._advance()

    async def sample(self, count: int) -> None:
        """The same for samples; raises Stopping when the run stops."""
        self._check_passable(count)
        await self._samples.pass_through(count, partial(self._count_sampled, count))
        self._advance()

    def relieve(self) -> None:
        """Admit the first waiting insert: a learner waits for a replay that has become empty."""
        if self._inserts.first:
            self.withdraw(self._inserts.first)

    def withdraw(self, count: int) -> None:
        """Take back `count` transitions that were admitted and not inserted after all."""
        self._count_inserted(-count)
        self._advance()

    def drain(self) -> None:
        """The run is stopping: admit all inserts and no samples."""
        self._stopping = True
        self._inserts.advance()
        self._samples.close(Stopping())

    def _may_insert(self, count: int) -> bool:
        return self._limiter is None or self._stopping or self._limiter.can_insert(count)

    def _may_sample(self, count: int) -> bool:
        if self._limiter is None:
            return self._inserted >= self._config.min_size
        return self._limiter.can_sample(count)

    def _count_inserted(self, count: int) -> None:
        self._inserted += count
        if self._limiter is not None:
            self._limiter.inserted(count)

    def _count_sampled(self, count: int) -> None:
        self._sampled += count
        if self._limiter is not None:
            self._limiter.sampled(count)

    def _advance(self) -> None:
        """Admit all that the last insert or sample has made room for."""
        while self._inserts.advance() or self._samples.advance():
            pass

    def _check_passable(self, samples: float) -> None:
        """Widen the limiter's bounds to the size of a chunk or batch, which would otherwise wait for ever."""
        limiter = self._limiter
        if limiter is not None and samples > limiter.error_buffer:
            if self._config.error_buffer_samples is not None:
                raise Refused(
                    f"one chunk or batch takes {samples:g} samples, more than error_buffer_samples = "
                    f"{limiter.error_buffer:g}: make it at least {samples:g}"
                )
            limiter.error_buffer = samples

    def state(self) -> State:
        limiter = self._limiter.state() if self._limiter is not None else None
        return {"limiter": limiter, "inserted": self._inserted, "sampled": self._sampled}

    def load_state(self, state: State) -> None:
        if self._limiter is not None and state["limiter"] is not None:
            self._limiter.load_state(state["limiter"])
        self._inserted = state["inserted"]
        self._sampled = state["sampled"]
