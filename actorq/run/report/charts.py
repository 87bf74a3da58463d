"""Line charts and histograms of a report, as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actorq.run.formatting import number

from .bins import Bins

COLOURS = 8
"""Distinct line colours: the style sheet defines `--line-0` to `--line-7`."""


@dataclass(frozen=True, slots=True)
class ChartLine:
    """One curve, interrupted where y is NaN or infinite."""

    label: str
    points: Sequence[tuple[float, float]]
    """(x, y) with x rising."""
    band: Sequence[tuple[float, float]] = ()
    """(low, high) at each point, or empty."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over a common x axis."""

    title: str
    lines: Sequence[ChartLine]
    x_label: str
    note: str = ""
    level: tuple[float, str] | None = None
    """A horizontal line: a value to reach, and its name."""
    logarithmic: bool = False
    """Use a logarithmic y axis if all values are positive and span more than a factor of 100."""
    y_text: Callable[[float], str] = number
    """Formats a y value."""
    named: bool = False
    """Show the legend even if there is only one line."""


@dataclass(frozen=True, slots=True)
class BarChart:
    """A histogram: one bar per bin, its height the bin's share of all values."""

    title: str
    bins: Bins
    """Not empty."""
    x_label: str
    note: str = ""
