"""What charts have in common: scales, ticks, the grid, and figures short enough to stand at an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LEFT, RIGHT, TOP, BOTTOM = 58, 18, 10, 36


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def drawable(value: float) -> bool:
    """Not NaN, not infinite, and far enough from overflow to be calculated with."""
    return abs(value) < 1e200


def number(value: float) -> str:
    """Short, for people: 1234567 is 1.23M."""
    if not math.isfinite(value):
        return str(value)
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if suffix == 'k' else size):.3g}{suffix}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def size(value: float) -> str:
    """Bytes: 1234567 is 1.23 MB, a megabyte being a million."""
    if not math.isfinite(value):
        return str(value)
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= 0.9995 * unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.3g} B"


def percent(value: float) -> str:
    """A share that is given in hundredths."""
    return f"{value:.3g} %"


def linear(values: Sequence[float], start: float, end: float, ticks: int, pad: float) -> Scale:
    """A scale that holds all values, with about so many round ticks."""
    finite = [value for value in values if drawable(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(high) / 2 or 0.5
        low, high = low - room, high + room
    low, high = low - (pad * (high - low) if low else 0.0), high + pad * (high - low)
    rough = (high - low) / ticks
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    first, last = math.ceil(low / step), math.floor(high / step)
    return Scale(low, high, start, end, tuple(index * step for index in range(first, last + 1)))


def grid(x: Scale, y: Scale, width: int, height: int, y_text: Callable[[float], str]) -> str:
    """Lines across at the ticks of y, and what both axes say."""
    parts = []
    for tick in y.ticks:
        at = f"{y(tick):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at}" dy="4" text-anchor="end">{y_text(tick)}</text>')
    below = height - BOTTOM + 15
    parts += [
        f'<text x="{x(tick):.1f}" y="{below}" text-anchor="middle">{number(tick)}</text>' for tick in x.ticks
    ]
    return "".join(parts)
