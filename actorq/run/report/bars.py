"""Histograms as inline SVG: a bar for each bin, its height the share of all values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from itertools import product

from .axes import BOTTOM, LEFT, RIGHT, TOP, Scale, grid, linear, number, percent
from .bins import Bin, Bins

_GAP = 1.0
_LEAST_HEIGHT = 1.5
"""Of a bar, so that a value seen once in a million is seen in the picture."""


@dataclass(frozen=True, slots=True)
class BarChart:
    """What is to be seen in one picture."""

    title: str
    bins: Bins
    """Not empty."""
    x_label: str
    note: str = ""


def bars_to_svg(chart: BarChart, width: int, height: int) -> str:
    """The chart as an `<svg>` element that scales with its place in the page."""
    bins = chart.bins
    count = sum(each.count for each in bins.bins)
    shares = [100 * each.count / count for each in bins.bins]
    y = linear([0.0, *shares], height - BOTTOM, TOP, 4, pad=0.06)
    zeros, others = _apart(bins)
    room = (width - LEFT - RIGHT) / (len(others) + 2) if zeros and others else 0.0
    x = _x_scale(bins, others or zeros, LEFT + 1.5 * room, width - RIGHT)
    corner = f'x="{width - RIGHT}" y="{height - 4}" text-anchor="end"'
    parts = [grid(x, y, width, height, percent), f"<text {corner}>{escape(chart.x_label)}</text>"]
    for each, share in zip(bins.bins, shares, strict=True):
        start, end = (LEFT, LEFT + room) if each in zeros and room else (x(each.low), x(each.high))
        if each.count:
            says = f"{_range(each, bins)}: {percent(share)} ({each.count:,})"
            parts.append(_bar(start, end, y(0), y(share), says))
    if room:
        below = height - BOTTOM + 15
        parts.append(f'<text x="{LEFT + room / 2:.1f}" y="{below}" text-anchor="middle">0</text>')
    label = escape(chart.title, quote=True)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _apart(bins: Bins) -> tuple[tuple[Bin, ...], tuple[Bin, ...]]:
    """The zeros of a logarithmic scale, which have no place on it, and all others."""
    zeros = tuple(each for each in bins.bins if bins.logarithmic and each.high == 0)
    return zeros, bins.bins[len(zeros) :]


def _x_scale(bins: Bins, shown: tuple[Bin, ...], start: float, end: float) -> Scale:
    low, high = shown[0].low, shown[-1].high
    if bins.logarithmic:
        return Scale(low, high, start, end, _log_ticks(low, high, bins.whole), logarithmic=True)
    scale = linear([low, high], start, end, 6, pad=0.0)
    ticks = tuple(tick for tick in scale.ticks if not bins.whole or float(tick).is_integer())
    return Scale(low, high, start, end, ticks)


def _log_ticks(low: float, high: float, whole: bool) -> tuple[float, ...]:
    if whole:
        first, last = round(math.log2(low)), round(math.log2(high))
        return tuple(2.0**power for power in range(first, last + 1, -(-(last - first) // 10)))
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first < 3 else (1,)
    powers = range(first, last + 1, -(-(last - first) // 8))
    ticks = (factor * 10.0**power for power, factor in product(powers, factors))
    return tuple(tick for tick in ticks if low * 0.999 <= tick <= high * 1.001)


def _range(each: Bin, bins: Bins) -> str:
    low, high = each.low, each.high
    if bins.whole and high > low:
        low, high = math.ceil(low), math.ceil(high) - 1
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _bar(start: float, end: float, bottom: float, top: float, says: str) -> str:
    height = max(bottom - top, _LEAST_HEIGHT)
    wide = max(end - start - _GAP, 0.5)
    where = f'x="{start + _GAP / 2:.1f}" y="{bottom - height:.1f}" width="{wide:.1f}" height="{height:.1f}"'
    return f'<rect class="bar" {where}><title>{escape(says)}</title></rect>'
