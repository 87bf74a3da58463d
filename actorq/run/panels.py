"""Which charts a run's metrics make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .charts import COLOURS, Chart, Line
from .recorder import Row


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    note: str = ""
    logarithmic: bool = False


_KNOWN = {  # in this order; whatever else the actors report comes after
    "episode_return": _Panel("Episode return", "of the explorers, who act at random now and then"),
    "loss": _Panel("Loss", logarithmic=True),
    "env_steps_per_second": _Panel("Environment steps per second"),
    "updates_per_second": _Panel("Updates per second"),
    "staleness": _Panel(
        "Staleness", "updates between the weights an experience was made with and the newest"
    ),
    "limiter_error": _Panel(
        "Rate limiter's error",
        "samples paid for by inserts and not yet taken; it stays within the declared bounds",
    ),
    "gradient_norm": _Panel("Gradient norm", "before clipping", logarithmic=True),
}
_NO_CURVE = {"solved", "wall_seconds"}


def evaluation_chart(rows: Sequence[Row], topology: Mapping[str, Any]) -> Chart | None:
    """The greedy policy's return, with the one to reach; None if it was never evaluated."""
    evaluated = [row for row in rows if "evaluation_return_mean" in row]
    if not evaluated:
        return None
    x, x_label = _x_axis(rows)
    points = [(row[x], row["evaluation_return_mean"]) for row in evaluated]
    spreads = [row.get("evaluation_return_std", 0.0) for row in evaluated]
    band = [(mean - std, mean + std) for (_, mean), std in zip(points, spreads, strict=True)]
    wanted = topology.get("stop", {}).get("solved", {}).get("return")
    return Chart(
        title="Evaluation return",
        lines=[Line("mean return", points, band)],
        x_label=x_label,
        note="the greedy policy's mean return over an evaluation's episodes, ± one standard deviation",
        level=None if wanted is None else (wanted, f"solved at {wanted:g}"),
    )


def other_charts(rows: Sequence[Row]) -> list[Chart]:
    """A chart for each reading and rate: those that are known first, then the actors' own."""
    x, x_label = _x_axis(rows)
    charts = []
    for name in _names(rows):
        lines = list(_lines(rows, name, x))
        if lines:
            panel = _KNOWN.get(name) or _Panel(name.replace("_", " ").capitalize())
            charts.append(Chart(panel.title, lines, x_label, panel.note, logarithmic=panel.logarithmic))
    return charts


def _names(rows: Iterable[Row]) -> list[str]:
    heard = dict.fromkeys(name for row in rows for name in row)
    counts = {name.removesuffix("_per_second") for name in heard if name.endswith("_per_second")}
    own = [
        name
        for name in heard
        if name not in counts | _NO_CURVE
        and not name.startswith("evaluation_")
        and not name.endswith("_per_second")
        and "/" not in name
    ]
    return list(dict.fromkeys([*_KNOWN, *own]))


def _lines(rows: Sequence[Row], name: str, x: str) -> Iterator[Line]:
    """A line for each actor that reports it; the mean and range of more than can be told apart."""
    actors = sorted({key for row in rows for key in row if key.startswith(f"{name}/")}, key=_natural)
    if 0 < len(actors) <= COLOURS:
        for key in actors:
            yield Line(key.partition("/")[2], [(row[x], row[key]) for row in rows if key in row and x in row])
        return
    heard = [row for row in rows if name in row and x in row]
    if not any(math.isfinite(row[name]) for row in heard):
        return
    ranges = [[row[key] for key in actors if key in row] or [row[name]] for row in heard]
    band = [(min(values), max(values)) for values in ranges] if actors else ()
    label = f"mean of {len(actors)} actors, and their range" if actors else name
    yield Line(label, [(row[x], row[name]) for row in heard], band)


def _natural(key: str) -> tuple[str, int]:
    """explorer.2 comes before explorer.10."""
    group, _, member = key.rpartition(".")
    return (group, int(member)) if member.isdecimal() else (key, -1)


def _x_axis(rows: Sequence[Row]) -> tuple[str, str]:
    if any("env_steps" in row for row in rows):
        return "env_steps", "environment steps"
    return "wall_seconds", "wall seconds"
