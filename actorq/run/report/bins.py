"""Binning of a distribution for a histogram: bins of equal width, linear or logarithmic."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from msgspec import structs

from actorq.actors.histogram import EXACT, FINEST, Distribution, edge

_HALVES = 2.0**50
"""Halves of all numbers below it are exact."""
_MEDIAN_SEEN = 1 / 20
"""As a share of the largest value. With a smaller median a linear scale would leave most bins empty."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Values from `low` on and below `high`. The zeros of a logarithmic scale are from 0 to 0."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Bins:
    """In rising order; empty bins only between others."""

    bins: tuple[Bin, ...]
    logarithmic: bool = False
    whole: bool = False
    """Whether all values are whole numbers: linear bins then have their edges halfway between them."""


def bins_of(distribution: Distribution, most: int) -> Bins:
    """At most `most` bins of round widths, and one for zeros; none for an empty distribution.

    Whole numbers that are few have a bin each. Values that aren't negative and whose median is far below the
    largest get a logarithmic scale.
    """
    if not distribution.cells:
        return Bins(())
    low, high = distribution.smallest, distribution.largest
    size = max(abs(low), abs(high))
    whole = size < _HALVES and all(edge(cell).is_integer() for cell in distribution.cells)
    if whole and size <= EXACT and high - low < most - 1:
        return Bins(_counted(distribution, _even_edges(low, high, 1.0, 0.5)), whole=True)
    if low >= 0 and distribution.quantile(0.5) < _MEDIAN_SEEN * high:
        zeros, positive = _apart(distribution)
        return Bins((*zeros, *_counted(positive, _log_edges(positive, whole, most))), True, whole)
    step = round_up(max((high - low) / (most - 2), size / FINEST))
    edges = _even_edges(low, high, max(step, 1.0), 0.5) if whole else _even_edges(low, high, step, 0.0)
    return Bins(_counted(distribution, edges), whole=whole)


def _even_edges(low: float, high: float, step: float, shift: float) -> list[float]:
    first, last = math.floor((low + shift) / step), math.floor((high + shift) / step) + 1
    return [step * index - shift for index in range(first, last + 1)]


def _apart(distribution: Distribution) -> tuple[tuple[Bin, ...], Distribution]:
    """The bin of the zeros, if there are any, and the distribution of the rest."""
    if 0 not in distribution.cells:
        return (), distribution
    cells = {cell: count for cell, count in distribution.cells.items() if cell}
    rest = structs.replace(distribution, cells=cells, smallest=edge(min(cells)))
    return (Bin(0.0, 0.0, distribution.cells[0]),), rest


def _log_edges(positive: Distribution, whole: bool, most: int) -> list[float]:
    """For whole numbers powers of 2, so that no bin is empty by design; otherwise equal parts of decades."""
    if whole:
        bits = int(positive.largest).bit_length()
        step = -(-bits // most)
        return [2.0 ** (step * index) for index in range(-(-bits // step) + 1)]
    low, high = math.log10(positive.smallest), math.log10(positive.largest)
    decades = (high - low) / (most - 2)
    part = next((part for part in (0.1, 0.2, 0.5) if part >= decades), float(math.ceil(decades)))
    first, last = math.floor(low / part + 1e-9), math.floor(high / part + 1e-9) + 1
    return [10.0 ** (part * index) for index in range(first, last + 1)]


def _counted(distribution: Distribution, edges: list[float]) -> tuple[Bin, ...]:
    """The bins with their counts; a histogram cell belongs to the bin that holds its middle."""
    cells, counts = distribution.cells, [0] * (len(edges) - 1)
    ends = {min(cells): distribution.smallest, max(cells): distribution.largest}
    for cell, count in cells.items():
        middle = edge(cell) / 2 + edge(cell + (1 if cell >= 0 else -1)) / 2
        place = bisect_right(edges, ends.get(cell, middle)) - 1
        counts[min(max(place, 0), len(counts) - 1)] += count
    made = [Bin(low, high, count) for (low, high), count in zip(pairwise(edges), counts, strict=True)]
    filled = [index for index, count in enumerate(counts) if count]
    return tuple(made[filled[0] : filled[-1] + 1])


def round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, … (or 0.5, 0.2, …) that is not below it."""
    magnitude = 10.0 ** math.floor(math.log10(value))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= value * 0.999)
