"""Numbers, byte counts and durations as short text, for the report and the command line."""

from __future__ import annotations

import math


def number(value: float) -> str:
    """At most three digits where that loses little: 1234567 is "1.23M"."""
    if not math.isfinite(value):
        return str(value)
    for least, unit, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.3g}{suffix}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def size(value: float) -> str:
    """Bytes in decimal units: 1234567 is "1.23 MB"."""
    if not math.isfinite(value):
        return str(value)
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= 0.9995 * unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.3g} B"


def percent(value: float) -> str:
    """A share given in hundredths."""
    return f"{value:.3g} %"


def duration(seconds: float) -> str:
    """Such as "9.4 s", "2 min 05 s" or "3 h 12 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
