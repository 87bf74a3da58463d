"""Settings of a replay in a topology file. Free of torch, numba and numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta


class LimiterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the rate limiter: when sampling may begin, and the ratio of samples to inserts."""

    min_size: Annotated[int, Meta(gt=0, description="transitions to be inserted before sampling begins")] = (
        1_000
    )
    samples_per_insert: (
        Annotated[float, Meta(gt=0, description="transitions sampled for each one inserted")] | None
    ) = None
    """None: neither side waits for the other."""
    error_buffer_samples: (
        Annotated[float, Meta(gt=0, description="how far samples may run ahead or behind, in transitions")]
        | None
    ) = None
    """None: the number of samples that min_size inserts allow."""

    @property
    def error_buffer(self) -> float:
        """Bound of the rate limiter's error, in samples."""
        if self.error_buffer_samples is not None:
            return self.error_buffer_samples
        return (self.samples_per_insert or 0.0) * self.min_size

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, sentence) for each pair of settings that contradict each other."""
        if self.samples_per_insert is None:
            if self.error_buffer_samples is not None:
                yield "error_buffer_samples", "it bounds samples_per_insert, which is not set"
        elif self.error_buffer < max(1.0, self.samples_per_insert):
            least = max(1.0, self.samples_per_insert)
            field = "min_size" if self.error_buffer_samples is None else "error_buffer_samples"
            yield (
                field,
                f"the rate limiter's error may reach {self.error_buffer:g} samples; with"
                f" {self.samples_per_insert:g} samples per insert nothing could move below {least:g}",
            )


class ReplayConfig(LimiterConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one replay. Defaults are those of prioritized experience replay (arXiv 1511.05952)."""

    capacity: Annotated[
        int, Meta(gt=0, le=2**30, description="transitions held at most; the oldest are evicted first")
    ] = 100_000
    sampling: Annotated[
        Literal["prioritized", "uniform"], Meta(description="in proportion to priority, or uniformly")
    ] = "prioritized"
    alpha: Annotated[
        float, Meta(ge=0, le=1, description="exponent of the priorities: 0 is uniform, 1 proportional")
    ] = 0.6
    epsilon: Annotated[
        float,
        Meta(ge=1e-30, le=1e30, description="added to |TD error|, so that every transition can be drawn"),
    ] = 1e-6
    beta_start: Annotated[
        float, Meta(ge=0, le=1, description="exponent of the importance weights at the first batch")
    ] = 0.4
    beta_end: Annotated[
        float, Meta(ge=0, le=1, description="exponent of the importance weights after beta_batches")
    ] = 1.0
    beta_batches: Annotated[
        int, Meta(gt=0, description="batches over which beta goes linearly from beta_start to beta_end")
    ] = 100_000

    def beta(self, batches: int) -> float:
        """The exponent of the importance weights after ``batches`` batches: linear, then constant."""
        share = min(batches / self.beta_batches, 1.0)
        return (1.0 - share) * self.beta_start + share * self.beta_end

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, sentence) for each pair of settings that contradict each other."""
        yield from self.size_problems()
        yield from self.shard_problems()

    def size_problems(self) -> Iterator[tuple[str, str]]:
        """Problems of a replay that is not sharded."""
        if self.min_size > self.capacity:
            problem = f"sampling would never begin: {self.min_size} is more than the capacity {self.capacity}"
            yield "min_size", problem

    def shard_problems(self) -> Iterator[tuple[str, str]]:
        """Problems that a shard has as well."""
        if self.beta_end < self.beta_start:
            problem = f"beta goes up, but beta_end {self.beta_end:g} is below beta_start {self.beta_start:g}"
            yield "beta_end", problem
        yield from super().problems()

    def state_problems(self, state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield (field, sentence) for each setting that is incompatible with a saved `state`."""
        index = state["index"]
        kind = index["kind"]
        if kind != self.sampling:
            yield "sampling", f"is {self.sampling}, but the saved replay is {kind}"
        elif kind == "prioritized":
            for field, mine in (("alpha", self.alpha), ("epsilon", self.epsilon)):
                if index[field] != mine:
                    yield field, f"is {mine:g}, but the saved priorities were made with {index[field]:g}"
        held = len(index["values"]) if kind == "prioritized" else index["next_id"] - index["first_id"]
        if held > self.capacity:
            yield "capacity", f"is {self.capacity}, but {held} transitions were saved"
