"""Charts as inline SVG, drawn by matplotlib.

They are drawn in the style sheet's light colours, and each colour is then replaced by its CSS variable, so
that the page's dark theme applies to them too. The same chart gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator

from actorq.run.formatting import number, percent

from .bins import Bin, Bins
from .charts import COLOURS, BarChart, Chart, ChartLine

STYLE_SHEET = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
_COLOURS = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", STYLE_SHEET.partition("@media")[0]))
"""By the CSS variable's name: the light theme."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 10, 36
"""Margins in pixels."""
_MOST_POINTS = 400
_MOST_MARKS = 60
_LEAST_BAR_PIXELS = 1.5
"""Keeps a bar of one value in a million visible."""
_LARGEST = 1e200
"""Larger values are left out: scaling them would overflow."""

_SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # to measure text with; the page's own font is used to show it
    "font.size": 11.5,
    "svg.fonttype": "none",
    "figure.frameon": False,
    "axes.facecolor": "none",
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.ymargin": 0.06,
    "grid.color": _COLOURS["rule"],
    "grid.linewidth": 1.0,
    "lines.linewidth": 1.8,
    "text.color": _COLOURS["soft"],
    **{f"{axis}tick.{key}": value for axis in "xy" for key, value in (("major.size", 0), ("major.pad", 5))},
    **{f"{axis}tick.color": _COLOURS["soft"] for axis in "xy"},
}
_drawing = Lock()
"""matplotlib's settings belong to the process, and several runs may end at once."""


def to_svg(chart: Chart | BarChart, width: int, height: int) -> str:
    """The chart as an `<svg>` element of this aspect ratio, in pixels, that scales with its container.

    Bars and the points of short curves show their values as tooltips. For as long as it draws, matplotlib's
    settings in this process are those of the report.
    """
    drawn = io.StringIO()
    with _drawing, style.context(["default", _SETTINGS, {"svg.hashsalt": chart.title}]):
        figure = Figure((width / 72, height / 72))  # an SVG has 72 units to the inch
        right, top = 1 - _RIGHT / width, 1 - _TOP / height
        left, bottom = _LEFT / width, _BOTTOM / height
        axes = figure.add_axes((left, bottom, right - left, top - bottom))
        if isinstance(chart, BarChart):
            _draw_bars(chart.bins, axes, height - _TOP - _BOTTOM)
        else:
            _draw_lines(chart, axes)
        axes.minorticks_off()
        figure.text(right, 4 / height, _plain(chart.x_label), ha="right", va="bottom")
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _inline(drawn.getvalue(), f'viewBox="0 0 {width} {height}"', chart.title)


def _inline(document: str, view_box: str, title: str) -> str:
    """An SVG document as an HTML element: colours are variables, and only definitions keep their ids."""
    svg = document[document.index("<svg") :].strip()
    svg = re.sub(r"<defs>\s*<style.*?</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg).replace("xlink:href", "href")
    # Tooltips are drawn as links, for which matplotlib has a hook; no chart has real ones.
    svg = re.sub(r'<a href="([^"]*)"[^>]*>', r"<g><title>\1</title>", svg).replace("</a>", "</g>")
    for name, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    label = escape(title, quote=True)
    return re.sub("<svg [^>]*>", lambda _: f'<svg {view_box} role="img" aria-label="{label}">', svg, count=1)


def _plain(text: str) -> str:
    """Keeps matplotlib from reading mathematics between dollar signs."""
    return text.replace("$", r"\$")


def _formatter(text_of: Callable[[float], str]) -> FuncFormatter:
    return FuncFormatter(lambda value, _: _plain(text_of(value)))


# Line charts.


def _draw_lines(chart: Chart, axes: Axes) -> None:
    lines = [_thinned(line) for line in chart.lines]
    furthest, values = 0.0, [np.empty(0)]
    for index, line in enumerate(lines):
        colour = _COLOURS[f"line-{index % COLOURS}"]
        x, y = _columns(line.points)
        if line.band:
            low, high = _columns(line.band)
            hidden = np.isnan(y)
            axes.fill_between(x, low, high, where=~hidden, color=colour, alpha=0.16, linewidth=0)
            values += [low[~hidden], high[~hidden]]
        axes.plot(x, y, color=colour, clip_on=False, solid_capstyle="round", solid_joinstyle="round")
        if len(x) <= _MOST_MARKS:
            shown = [(across, up) for across, up in zip(x, y, strict=True) if math.isfinite(up)]
            marks = axes.scatter(*_columns(shown), s=21, color=colour, linewidth=0, clip_on=False)
            marks.set_urls([f"{line.label}: {chart.y_text(up)} at {number(across)}" for across, up in shown])
        furthest = max(furthest, x.max(initial=0.0))
        values.append(y)
    axes.set_xlim(0, furthest or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(_formatter(number))
    if chart.level is not None:
        _draw_level(*chart.level, axes)
    _scale_y(np.concatenate(values), chart, axes)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[Any, Any]:
    """Both columns, with NaN for what can't be drawn."""
    columns = np.array(pairs, dtype=float).reshape(-1, 2).T
    first, second = np.where(np.abs(columns) < _LARGEST, columns, np.nan)
    return first, second


def _thinned(line: ChartLine) -> ChartLine:
    """At most _MOST_POINTS points, each the mean of equally many neighbours."""
    count = -(-len(line.points) // _MOST_POINTS)
    if count <= 1:
        return line
    groups = [slice(start, start + count) for start in range(0, len(line.points), count)]
    points = [_mean(line.points[group]) for group in groups]
    return ChartLine(line.label, points, [_mean(line.band[group]) for group in groups] if line.band else ())


def _mean(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of the pairs that can be drawn, if there are any."""
    drawable = [pair for pair in pairs if all(abs(value) < _LARGEST for value in pair)] or pairs[:1]
    first, second = (sum(column) / len(drawable) for column in zip(*drawable, strict=True))
    return first, second


def _draw_level(value: float, name: str, axes: Axes) -> None:
    colour = _COLOURS["level"]
    axes.axhline(value, color=colour, linewidth=1.4, dashes=(3.6, 2.9))
    place: Any = axes.get_yaxis_transform()  # x in shares of the axis, y a value
    axes.annotate(
        _plain(name),
        (0, value),
        (6, 5),
        place,
        "offset points",
        color=colour,
        weight="bold",
        annotation_clip=False,
    )


def _scale_y(values: Any, chart: Chart, axes: Axes) -> None:
    values = values[np.isfinite(values)]
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    if chart.logarithmic and 0 < low < high / 100:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        axes.set_yscale("log")
        axes.set_ylim(10.0**first, 10.0**last)
        axes.yaxis.set_major_locator(
            FixedLocator([10.0**n for n in range(first, last + 1, -(-(last - first) // 5))])
        )
    else:
        if 0 < low < 0.5 * high:
            axes.set_ylim(bottom=0)
        elif low == high and chart.level is None:
            axes.set_ylim(low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(_formatter(chart.y_text))


# Histograms.


def _draw_bars(bins: Bins, axes: Axes, height: float) -> None:
    zeros = tuple(each for each in bins.bins if bins.logarithmic and each.high == 0)
    others = bins.bins[len(zeros) :]
    low, high = others[0].low, others[-1].high
    zero_at = low
    if bins.logarithmic:
        axes.set_xscale("log")
        zero_at = low * low / others[0].high  # a bin's width to the left of the first
    total = sum(each.count for each in bins.bins)
    most = 100 * max(each.count for each in bins.bins) / total
    for each in filter(lambda each: each.count, bins.bins):
        share = 100 * each.count / total
        start, end = each.low, each.high
        if each in zeros:
            start, end = zero_at / math.sqrt(low / zero_at), zero_at * math.sqrt(low / zero_at)
        (bar,) = axes.bar(
            start,
            max(share, _LEAST_BAR_PIXELS / height * most),
            end - start,
            align="edge",
            color=_COLOURS["line-0"],
            edgecolor=_COLOURS["card"],
            linewidth=1,
            alpha=0.85,
        )
        bar.set_url(f"{_range(each, bins)}: {percent(share)} ({each.count:,})")
    axes.set_xlim(zero_at / math.sqrt(low / zero_at) if zeros else low, high)
    axes.set_ylim(0, 1.06 * most)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(_formatter(percent))
    ticks = _ticks(bins, low, high)
    axes.set_xticks([zero_at, *ticks] if zeros else ticks)
    axes.xaxis.set_major_formatter(
        _formatter(lambda value: "0" if zeros and value == zero_at else number(value))
    )


def _ticks(bins: Bins, low: float, high: float) -> list[float]:
    if not bins.logarithmic:
        found = MaxNLocator(6, integer=bins.whole, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    elif bins.whole:
        found = LogLocator(2.0, numticks=10).tick_values(low, high)
    else:
        found = LogLocator(10.0, (1.0, 2.0, 5.0) if high < 1000 * low else (1.0,), numticks=8).tick_values(
            low, high
        )
    return [float(tick) for tick in found if low * 0.999 <= tick <= high * 1.001]


def _range(each: Bin, bins: Bins) -> str:
    low, high = each.low, each.high
    if bins.whole and high > low:
        low, high = math.ceil(low), math.ceil(high) - 1
    return number(low) if low == high else f"{number(low)} to {number(high)}"
