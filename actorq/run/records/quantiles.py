"""Quantiles of a distribution."""

from __future__ import annotations

import msgspec

from actorq.actors.histogram import Distribution


class Quantiles(msgspec.Struct, frozen=True):
    """For each share, the smallest observed value that at least this share of the values doesn't exceed."""

    p50: float
    p90: float
    p99: float
    max: float


def quantiles_of(distribution: Distribution) -> Quantiles | None:
    """None if there is no finite value."""
    if not distribution.cells:
        return None
    at = distribution.quantile
    return Quantiles(at(0.5), at(0.9), at(0.99), distribution.largest)
