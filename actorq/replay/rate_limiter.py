"""Rate limiter: keeps the ratio of samples to inserts within bounds.

After Reverb's SampleToInsertRatio (Cassirer et al., "Reverb: A Framework for Experience Replay", arXiv
2102.04736, section 3.4).
"""

from __future__ import annotations

import math
from typing import Any


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
