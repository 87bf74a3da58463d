"""Line charts as inline SVG: no scripts, colours left to the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from .axes import BOTTOM, LEFT, RIGHT, TOP, Scale, drawable, grid, linear, number

COLOURS = 8
"""Lines that can be told apart; the style sheet has `--line-0` to `--line-7`."""
_MOST_POINTS = 400
_MOST_MARKS = 60

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ChartLine:
    """One curve. Where y is NaN or infinite it is interrupted."""

    label: str
    points: Sequence[Point]
    """(x, y) with x rising."""
    band: Sequence[tuple[float, float]] = ()
    """(low, high) at each point, or empty."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What is to be seen in one picture."""

    title: str
    lines: Sequence[ChartLine]
    x_label: str
    note: str = ""
    level: tuple[float, str] | None = None
    """A value to reach, and its name."""
    logarithmic: bool = False
    """By powers of ten where all values are positive and far apart."""
    y_text: Callable[[float], str] = number
    """How a value is written."""
    named: bool = False
    """Whether a line that is the only one has its name below."""


def to_svg(chart: Chart, width: int, height: int) -> str:
    """The chart as an `<svg>` element that scales with its place in the page."""
    lines = [_thinned(line) for line in chart.lines]
    x = linear([0.0, *(x for line in lines for x, _ in line.points)], LEFT, width - RIGHT, 6, pad=0.0)
    y = _y_scale(chart, lines, height)
    corner = f'x="{width - RIGHT}" y="{height - 4}" text-anchor="end"'
    parts = [grid(x, y, width, height, chart.y_text), f"<text {corner}>{escape(chart.x_label)}</text>"]
    parts += [_band(line, index, x, y) for index, line in enumerate(lines) if line.band]
    if chart.level is not None:
        at, name = y(chart.level[0]), escape(chart.level[1])
        parts.append(f'<line class="level" x1="{LEFT}" x2="{width - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="level-name" x="{LEFT + 6}" y="{at - 5:.1f}">{name}</text>')
    parts += [_curve(line, index, x, y, chart.y_text) for index, line in enumerate(lines)]
    label = escape(chart.title, quote=True)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _thinned(line: ChartLine) -> ChartLine:
    """At most _MOST_POINTS points, each the mean of as many peers as that takes."""
    size = -(-len(line.points) // _MOST_POINTS)
    if size <= 1:
        return line
    groups = range(0, len(line.points), size)
    points = [_mean(line.points[group : group + size]) for group in groups]
    band = [_mean(line.band[group : group + size]) for group in groups] if line.band else ()
    return ChartLine(line.label, points, band)


def _mean(pairs: Sequence[Point]) -> Point:
    finite = [pair for pair in pairs if all(map(drawable, pair))]
    if not finite:
        return pairs[0]
    return sum(pair[0] for pair in finite) / len(finite), sum(pair[1] for pair in finite) / len(finite)


def _y_scale(chart: Chart, lines: Iterable[ChartLine], height: int) -> Scale:
    values = [
        y for line in lines for y in (*(y for _, y in line.points), *(v for pair in line.band for v in pair))
    ]
    values = [value for value in values if drawable(value)]
    bottom, top = height - BOTTOM, TOP
    positive = bool(values) and min(values) > 0
    if chart.logarithmic and positive and max(values) / min(values) > 100:
        first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        every = -(-(last - first) // 5)
        ticks = tuple(10.0**power for power in range(first, last + 1, every))
        return Scale(10.0**first, 10.0**last, bottom, top, ticks, logarithmic=True)
    if chart.level is not None:
        values.append(chart.level[0])
    if values and 0 < min(values) < 0.5 * max(values):
        values.append(0.0)
    return linear(values, bottom, top, 4, pad=0.06)


def _stretches(line: ChartLine) -> list[list[int]]:
    """The points' indexes, split where a point can't be drawn."""
    found: list[list[int]] = [[]]
    for index, point in enumerate(line.points):
        if all(map(drawable, point)):
            found[-1].append(index)
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]


def _curve(line: ChartLine, index: int, x: Scale, y: Scale, y_text: Callable[[float], str]) -> str:
    steps = []
    for stretch in _stretches(line):
        corners = [f"{x(line.points[at][0]):.1f} {y(line.points[at][1]):.1f}" for at in stretch]
        steps.append("M" + "L".join(corners))
    style = f"--colour: var(--line-{index % COLOURS})"
    parts = [f'<path class="curve" style="{style}" d="{"".join(steps)}"/>']
    if len(line.points) <= _MOST_MARKS:
        for at in (at for stretch in _stretches(line) for at in stretch):
            across, up = line.points[at]
            says = escape(f"{line.label}: {y_text(up)} at {number(across)}")
            where = f'cx="{x(across):.1f}" cy="{y(up):.1f}"'
            parts.append(
                f'<circle class="mark" style="{style}" {where} r="2.6"><title>{says}</title></circle>'
            )
    return "".join(parts)


def _band(line: ChartLine, index: int, x: Scale, y: Scale) -> str:
    shapes = []
    for stretch in _stretches(line):
        upper = [f"{x(line.points[at][0]):.1f} {y(line.band[at][1]):.1f}" for at in stretch]
        lower = [f"{x(line.points[at][0]):.1f} {y(line.band[at][0]):.1f}" for at in reversed(stretch)]
        shapes.append("M" + "L".join([*upper, *lower]) + "Z")
    return f'<path class="band" style="--colour: var(--line-{index % COLOURS})" d="{"".join(shapes)}"/>'
