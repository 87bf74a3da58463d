"""Who may insert or sample now: a line for each side in front of the rate limiter."""

from __future__ import annotations

from collections.abc import Callable

from actorq.actors import Actor, Refused, State, Stopping
from actorq.actors.runtime.scheduler import Event
from actorq.replay.config import LimiterConfig
from actorq.replay.rate_limiter import RateLimiter

from .admission_queue import AdmissionQueue


class RateLimitGate:
    """Counts what passes and has each side wait for what the limiter asks of the other.

    Without `samples_per_insert` inserts never wait, and samples only for the first `min_size` inserts.
    """

    def __init__(self, config: LimiterConfig, new_event: Callable[[], Event]) -> None:
        self._config = config
        self._limiter: RateLimiter | None = None
        if config.samples_per_insert is not None:
            self._limiter = RateLimiter(
                samples_per_insert=config.samples_per_insert,
                min_size=config.min_size,
                error_buffer=config.error_buffer,
            )
        self._inserts = AdmissionQueue(self._may_insert, new_event)
        self._samples = AdmissionQueue(self._may_sample, new_event)
        self._inserted = 0
        self._sampled = 0
        self._stopping = False

    def report(self, actor: Actor) -> None:
        """Report samples per insert so far and the limiter's error, in samples, in the actor's name."""
        if self._inserted:
            actor.report("replay_ratio", self._sampled / self._inserted)
        if self._limiter is not None:
            actor.report("limiter_error", self._limiter.error)

    async def insert(self, count: int, *, at_once: bool = False) -> None:
        """Wait until `count` transitions may be inserted, and count them. Cancelled, they are not counted.

        `at_once`: there is nothing to sample, so that waiting for samples might never end. Raises Refused if
        they could never be inserted.
        """
        self._check_passable(count * (self._limiter.samples_per_insert if self._limiter else 0.0))
        if at_once:
            self._count_inserted(count)
        else:
            await self._inserts.pass_through(count, lambda: self._count_inserted(count))
        self._advance()

    async def sample(self, count: int) -> None:
        """The same for samples; raises Refused when the run stops, too."""
        if self._stopping:  # nobody waits for it any more, and the state goes on from what was learned
            raise Stopping
        self._check_passable(count)
        await self._samples.pass_through(count, lambda: self._count_sampled(count))
        self._advance()

    def relieve(self) -> None:
        """There is nothing to sample, and somebody waits for it: let the first insert in line through."""
        if self._inserts.first:
            self.withdraw(self._inserts.first)

    def withdraw(self, count: int) -> None:
        """So many transitions that had passed were not inserted after all."""
        self._count_inserted(-count)
        self._advance()

    def drain(self) -> None:
        """The run is stopping: inserts pass, nobody samples any more."""
        self._stopping = True
        self._inserts.advance()
        self._samples.turn_back(Stopping())

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
        """Let through whom the last insert or sample has made room for."""
        while self._inserts.advance() or self._samples.advance():
            pass

    def _check_passable(self, samples: float) -> None:
        """Widen the limiter's bounds to what one chunk or batch takes, or nothing would ever move."""
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
