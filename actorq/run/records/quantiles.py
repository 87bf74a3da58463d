"""The quantiles by which a distribution is told in a few numbers."""

from __future__ import annotations

import msgspec

from actorq.actors.histogram import Distribution


class Quantiles(msgspec.Struct, frozen=True):
    """Of all that was observed: the smallest value that at least this share doesn't exceed."""

    p50: float
    p90: float
    p99: float
    max: float


def quantiles_of(distribution: Distribution) -> Quantiles | None:
    """None if nothing was observed that has a place."""
    if not distribution.cells:
        return None
    at = distribution.quantile
    return Quantiles(at(0.5), at(0.9), at(0.99), distribution.largest)
