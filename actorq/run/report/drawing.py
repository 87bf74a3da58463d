"""Charts as inline SVG, drawn by matplotlib.

They are drawn in the style sheet's light colours, and each colour is then replaced by its CSS variable, so
that the page's dark theme applies to them too. The same chart gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from html import escape
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from actorq.run.formatting import number, percent

from .bins import Bin, Bins
from .charts import COLOURS, BarChart, Chart, ChartLine

STYLE_SHEET = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
_STYLE = Path(__file__).with_name("report.mplstyle")
_COLOURS = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", STYLE_SHEET.partition("@media")[0]))
"""The light theme, by the CSS variables' names."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 10, 36
"""Margins in pixels."""
_MOST_POINTS = 400
_MOST_MARKS = 60
_LEAST_BAR = 0.01
"""Height of the lowest bar as a share of the highest, so that one value in a million is visible."""
_LARGEST = 1e100
"""Larger values are left out: their ticks would overflow."""
_STEPS = [1, 2, 2.5, 5, 10]
"""Distances of ticks, times a power of ten."""

_drawing = Lock()
"""matplotlib's settings belong to the process, and several runs may end at once."""


def to_svg(chart: Chart | BarChart, width: int, height: int) -> str:
    """The chart as an `<svg>` element of this aspect ratio, in pixels, that scales with its container.

    Bars and the points of short curves show their values as tooltips. While it draws, matplotlib's
    settings in this process are the report's.
    """
    document = io.StringIO()
    with _drawing, style.context(["default", _STYLE, {"svg.hashsalt": chart.title}]):
        figure = Figure((width / 72, height / 72))  # an SVG has 72 units to the inch
        right, top = 1 - _RIGHT / width, 1 - _TOP / height
        left, bottom = _LEFT / width, _BOTTOM / height
        axes = figure.add_axes((left, bottom, right - left, top - bottom))
        if isinstance(chart, BarChart):
            _draw_bars(chart.bins, axes)
        else:
            _draw_lines(chart, axes)
        figure.text(right, 4 / height, chart.x_label, ha="right", va="bottom")
        metadata: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(document, format="svg", metadata=metadata)
    return _inline(document.getvalue(), f'viewBox="0 0 {width} {height}"', chart.title)


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


def _draw_lines(chart: Chart, axes: Axes) -> None:
    tables = [_table(line) for line in chart.lines]
    for index, (line, table) in enumerate(zip(chart.lines, tables, strict=True)):
        colour = _COLOURS[f"line-{index % COLOURS}"]
        x, y = table[:2]
        if line.band:
            axes.fill_between(x, *table[2:], color=colour, alpha=0.16, linewidth=0)
        axes.plot(x, y, color=colour, clip_on=False)
        if len(x) <= _MOST_MARKS:
            shown = table[:2, ~np.isnan(y)]
            marks = axes.scatter(shown[0], shown[1], s=21, color=colour, linewidth=0, clip_on=False)
            marks.set_urls([f"{line.label}: {chart.y_text(up)} at {number(at)}" for at, up in shown.T])
    axes.set_xlim(0, max(np.nan_to_num(table[0]).max(initial=0.0) for table in tables) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    if chart.level is not None:
        value, name = chart.level
        colour, place = _COLOURS["level"], axes.get_yaxis_transform()
        axes.axhline(value, color=colour, linewidth=1.4, dashes=(3.6, 2.9))
        axes.text(0.01, value, f"{name}\n", color=colour, weight="bold", va="center", transform=place)
    _scale_y(np.concatenate([table[1:].ravel() for table in tables]), chart, axes)


def _table(line: ChartLine) -> NDArray[np.float64]:
    """[2 or 4, n]: x, y, and the band's low and high, of at most _MOST_POINTS points, each the mean of
    equally many consecutive points. NaN where nothing can be drawn.
    """
    columns = [*np.reshape(line.points, (-1, 2)).T, *(np.reshape(line.band, (-1, 2)).T if line.band else ())]
    table = np.array(columns, dtype=float)
    table[:, ~(np.abs(table) < _LARGEST).all(axis=0)] = np.nan
    size = -(-table.shape[1] // _MOST_POINTS)
    if size <= 1:
        return table
    groups = [np.ma.masked_invalid(table[:, at : at + size]) for at in range(0, table.shape[1], size)]
    return np.stack([group.mean(axis=1).filled(np.nan) for group in groups], axis=1)


def _scale_y(values: NDArray[np.float64], chart: Chart, axes: Axes) -> None:
    values = values[np.isfinite(values)]
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    if chart.logarithmic and 0 < low < high / 100:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.minorticks_off()
    else:
        if 0 < low < 0.5 * high:
            axes.set_ylim(bottom=0)
        elif low == high and chart.level is None:
            axes.set_ylim(low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    axes.yaxis.set_major_formatter(lambda value, _: chart.y_text(value))


def _draw_bars(bins: Bins, axes: Axes) -> None:
    """Bars of equal width; on a logarithmic scale in the logarithm, with the zeros left of the others."""
    base = 2.0 if bins.whole else 10.0
    edges = np.array([(each.low, each.high) for each in bins.bins])
    zeros = bins.logarithmic & (edges[:, 1] == 0)
    if bins.logarithmic:
        edges[~zeros] = np.log(edges[~zeros]) / math.log(base)
    low, high = edges[~zeros][0, 0], edges[~zeros][-1, 1]
    width = edges[~zeros][0, 1] - low
    edges[zeros] = low - 1.5 * width, low - 0.5 * width
    counts = np.array([each.count for each in bins.bins])
    shares = 100 * counts / counts.sum()
    heights = np.where(counts, np.maximum(shares, _LEAST_BAR * shares.max()), 0)
    look: dict[str, Any] = {"color": _COLOURS["line-0"], "edgecolor": _COLOURS["card"], "alpha": 0.85}
    bars = axes.bar(edges[:, 0], heights, edges[:, 1] - edges[:, 0], align="edge", linewidth=1, **look)
    for bar, each, share in zip(bars, bins.bins, shares, strict=True):
        bar.set_visible(each.count > 0)
        bar.set_url(f"{_range(each, bins)}: {percent(share)} ({each.count:,})")
    axes.set_xlim(edges[0, 0], high)
    axes.set_ylim(0, 1.06 * shares.max())
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    ticks = MaxNLocator(8, integer=bins.logarithmic or bins.whole, steps=_STEPS).tick_values(low, high)
    ticks = ticks[(low - width / 99 <= ticks) & (ticks <= high + width / 99)]
    labels = [number(base**tick if bins.logarithmic else tick) for tick in ticks]
    axes.set_xticks([*edges[zeros].mean(axis=1), *ticks], [*("0" for _ in edges[zeros]), *labels])


def _range(each: Bin, bins: Bins) -> str:
    low, high = each.low, each.high
    if bins.whole and high > low:
        low, high = math.ceil(low), math.ceil(high) - 1
    return number(low) if low == high else f"{number(low)} to {number(high)}"
