"""Selection of charts for a run's metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actorq.actors.histogram import Distribution
from actorq.run.formatting import number, percent, size
from actorq.run.records.distributions import Quantiles
from actorq.run.records.recorder import Row

from .bins import bins_of
from .charts import COLOURS, BarChart, Chart, ChartLine

MOST_BARS = 40
MOST_TASKS = 30
"""Tasks with charts of their own."""


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    note: str = ""
    logarithmic: bool = False
    y_text: Callable[[float], str] = number
    unit: str = ""
    """The x axis of the histogram."""
    lines: Mapping[str, str] = field(default_factory=dict)
    """Label of each line by its metric, for several metrics in one chart; empty: the panel's own metric."""
    shares: bool = False
    """Draw each line as its share of the lines' sum in an interval: counts of exclusive outcomes."""


_KNOWN = {  # in this order, before all other metrics
    "episode_return": _Panel("Episode return", "of the explorers, who act at random now and then"),
    "loss": _Panel("Loss", logarithmic=True),
    "env_steps_per_second": _Panel("Environment steps per second"),
    "updates_per_second": _Panel("Updates per second"),
    "staleness": _Panel(
        "Staleness", "updates between the weights that were used and the newest", unit="updates"
    ),
    "weights_staleness": _Panel(
        "Staleness of explorers' weights",
        "of each chunk: the learner's updates since the weights it was explored with",
        unit="updates",
    ),
    "priority": _Panel(
        "Priorities", "|TD error| of sampled transitions, as updated by the learner", unit="|TD error|"
    ),
    "age": _Panel(
        "Age of sampled transitions",
        "transitions that came into the same replay shard after it",
        unit="transitions",
    ),
    "replay_ratio": _Panel("Replay ratio", "transitions sampled for each one inserted, since the start"),
    "gradients": _Panel(
        "Gradients by outcome",
        "share of those in an interval; below, how many in the whole run",
        y_text=percent,
        lines={
            "gradients_accepted": "accepted",
            "gradients_scaled": "scaled down",
            "gradients_late": "late",
            "gradients_stale": "too stale",
            "gradients_refused": "refused",
            "gradients_outlying": "outlying, not sent",
        },
        shares=True,
    ),
    "bytes_per_update": _Panel(
        "Bytes per update",
        "of gradients into the parameter server, and of weights out of it",
        y_text=size,
        logarithmic=True,
        lines={"bytes_in_per_update": "in", "bytes_out_per_update": "out"},
    ),
    "limiter_error": _Panel(
        "Rate limiter's error",
        "samples paid for by inserts and not yet taken; within the declared bounds until the run stops",
    ),
    "waiting_share": _Panel("Learner's waiting share", "of its time, in which it waited for a batch"),
    "gradient_norm": _Panel("Gradient norm", "before clipping", logarithmic=True),
    "target_scale": _Panel("Scale of targets", "what adaptive tasks' targets are divided by for learning"),
}
_NO_CURVE = {"solved", "wall_seconds", *(name for panel in _KNOWN.values() for name in panel.lines)}
_QUANTILES = {"p50": "median", "p99": "99 %", "max": "largest"}
"""Quantiles of an interval that are drawn, with their labels."""


def evaluation_charts(rows: Sequence[Row], topology: Mapping[str, Any]) -> list[Chart]:
    """The greedy policy's return and its target: a chart for each evaluated task."""
    wanted = topology.get("stop", {}).get("solved", {}).get("return")
    tasks = task_names(topology)
    if not tasks:
        return [chart for chart in [_evaluation_chart(rows, "", wanted)] if chart]
    marks = wanted if isinstance(wanted, Mapping) else {}
    charts = [_evaluation_chart(rows, f"/{task}", marks.get(task)) for task in tasks]
    return [chart for chart in charts if chart]


def task_names(topology: Mapping[str, Any]) -> list[str]:
    """Names in a topology file's `[[tasks]]`; none for a single `[task]`."""
    return [task["name"] for task in topology.get("tasks", ())][:MOST_TASKS]


def _evaluation_chart(rows: Sequence[Row], task: str, wanted: float | None) -> Chart | None:
    mean, std = f"evaluation_return_mean{task}", f"evaluation_return_std{task}"
    evaluated = [row for row in rows if mean in row]
    if not evaluated:
        return None
    x, x_label = _x_axis(rows)
    points = [(row[x], row[mean]) for row in evaluated]
    band = [(row[mean] - row.get(std, 0.0), row[mean] + row.get(std, 0.0)) for row in evaluated]
    return Chart(
        title=f"Evaluation return{_of(task)}",
        lines=[ChartLine("mean return", points, band)],
        x_label=x_label,
        note="the greedy policy's mean return over an evaluation's episodes, ± one standard deviation",
        level=None if wanted is None else (wanted, f"solved at {wanted:g}"),
    )


def other_charts(
    rows: Sequence[Row], distributions: Mapping[str, Distribution] | None = None, tasks: Sequence[str] = ()
) -> list[Chart | BarChart]:
    """A chart for each gauge and rate, and a histogram for each observed value: those of the built-in roles
    first, then users' own. Gauges of several tasks have a chart for each task.
    """
    x, x_label = _x_axis(rows)
    histograms = {
        name: (found, bins_of(found, MOST_BARS))
        for name, found in (distributions or {}).items()
        if found.cells
    }
    charts: list[Chart | BarChart] = []
    for name in dict.fromkeys([*_KNOWN, *_own_names(rows), *histograms]):
        panel = _KNOWN.get(name) or _Panel(_in_words(name).capitalize())
        far_apart = name in histograms and histograms[name][1].logarithmic
        of_tasks = [f"/{task}" for task in tasks if any(f"{name}/{task}" in row for row in rows)]
        curves = {task: list(_lines_of(rows, f"{name}{task}", panel, x)) for task in of_tasks or [""]}
        charts += [
            Chart(
                f"{panel.title}{_of(task)}",
                lines,
                x_label,
                panel.note,
                logarithmic=panel.logarithmic or far_apart,
                y_text=panel.y_text,
                named=bool(panel.lines),
            )
            for task, lines in curves.items()
            if lines
        ]
        if name in histograms:
            found, bins = histograms[name]
            title, unit = f"{panel.title}: distribution", panel.unit or _in_words(name)
            charts.append(BarChart(title, bins, unit, _quantiles_text(found)))
    return charts


def _quantiles_text(distribution: Distribution) -> str:
    words = [
        f"median {number(distribution.quantile(0.5))}",
        f"99 % up to {number(distribution.quantile(0.99))}",
        f"largest {number(distribution.largest)}",
        f"{distribution.count:,} in all",
    ]
    if distribution.not_finite:
        words.append(f"{distribution.not_finite:,} not finite, left out")
    return " · ".join(words)


def _of(task: str) -> str:
    """ " of cartpole" for "/cartpole"; "" for a single task."""
    return f" of {task[1:]}" if task else ""


def _in_words(name: str) -> str:
    return name.replace("_", " ")


def _own_names(rows: Iterable[Row]) -> list[str]:
    """Metrics with a chart that `_KNOWN` doesn't list."""
    names = dict.fromkeys(name for row in rows for name in row)
    counts = {name.removesuffix("_per_second") for name in names if name.endswith("_per_second")}
    observed = {name for name in names if f"{name}_p50" in names}
    quantiles = {f"{name}_{key}" for name in observed for key in (*Quantiles.__struct_fields__, "not_finite")}
    return [
        name
        for name in names
        if name not in counts | quantiles | _NO_CURVE
        and not name.startswith("evaluation_")
        and not name.endswith("_per_second")
        and "/" not in name
    ]


def _lines_of(rows: Sequence[Row], name: str, panel: _Panel, x: str) -> Iterator[ChartLine]:
    if panel.shares:
        yield from _shares(rows, panel.lines, x)
    elif panel.lines:
        yield from _several(rows, panel.lines, x)
    elif any(f"{name}_p50" in row for row in rows):
        yield from _several(rows, {f"{name}_{key}": label for key, label in _QUANTILES.items()}, x)
    else:
        yield from _by_actor(rows, name, x)


def _several(rows: Sequence[Row], labels: Mapping[str, str], x: str) -> Iterator[ChartLine]:
    """A line for each metric that has a finite value."""
    for name, label in labels.items():
        points = [(row[x], row[name]) for row in rows if name in row and x in row]
        if any(math.isfinite(y) for _, y in points):
            yield ChartLine(label, points)


def _shares(rows: Sequence[Row], labels: Mapping[str, str], x: str) -> Iterator[ChartLine]:
    """Each count's share, in percent, of the growth of all from one row to the next."""
    totals = [[row.get(name, 0.0) for name in labels] for row in rows]
    grown = [
        [now - then for now, then in zip(after, before, strict=True)]
        for after, before in zip(totals, [[0.0] * len(labels), *totals], strict=False)
    ]
    for index, label in enumerate(labels.values()):
        points = [
            (row[x], 100 * growth[index] / sum(growth))
            for row, growth in zip(rows, grown, strict=True)
            if x in row and sum(growth) > 0
        ]
        if points and totals[-1][index]:
            yield ChartLine(f"{label} {totals[-1][index]:,.0f}", points)


def _by_actor(rows: Sequence[Row], name: str, x: str) -> Iterator[ChartLine]:
    """A line for each actor that reports the metric, or the mean and range of more than COLOURS."""
    actors = sorted({key for row in rows for key in row if key.startswith(f"{name}/")}, key=_natural)
    if 0 < len(actors) <= COLOURS:
        for key in actors:
            yield ChartLine(
                key.removeprefix(f"{name}/"), [(row[x], row[key]) for row in rows if key in row and x in row]
            )
        return
    read = [row for row in rows if name in row and x in row]
    if not any(math.isfinite(row[name]) for row in read):
        return
    ranges = [[row[key] for key in actors if key in row] or [row[name]] for row in read]
    band = [(min(values), max(values)) for values in ranges] if actors else ()
    label = f"mean of {len(actors)} actors, and their range" if actors else name
    yield ChartLine(label, [(row[x], row[name]) for row in read], band)


def _natural(key: str) -> tuple[str, int]:
    """Sort key that puts explorer.2 before explorer.10."""
    group, _, member = key.rpartition(".")
    return (group, int(member)) if member.isdecimal() else (key, -1)


def _x_axis(rows: Sequence[Row]) -> tuple[str, str]:
    if any("env_steps" in row for row in rows):
        return "env_steps", "environment steps"
    return "wall_seconds", "wall seconds"
