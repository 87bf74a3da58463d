"""Layout of the live view: a run's progress and statistics as rich renderables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from actorq.actors import SystemStatistics
from actorq.actors.statistics import ActorStatistics
from actorq.run.formatting import size
from actorq.run.records.recorder import Evaluation, Progress
from actorq.topology import Solved, Topology
from actorq.topology.check.members import declared_name

from .formatting import clock, counted, figure, gradients, rate, task_returns

WIDEST = 100
"""Wider tables put figures too far from their labels."""
NARROW = 60
"""Below this many columns actors' rates are left out."""

MOST_ACTORS = 12
MOST_COUNTS = 5

_LIMITED = {"env_steps": "env steps", "updates": "updates", "episodes": "episodes"}
_ACTOR_COLUMNS = ("waiting", "handled", "per second", "restarts")
_READINGS = {
    "loss": "loss",
    "replay_size": "replay size",
    "staleness": "staleness",
    "weights_staleness": "weights staleness",
}
_IN_BYTES = {
    "bytes_in_per_update": "in per update",
    "bytes_out_per_update": "out per update",
    "stage_bytes_sent": "stages sent",
    "stage_in_flight_bytes": "stages in flight",
}
_COUNTS_NOT_SHOWN = {"evaluations", "shard_updates", "stage_updates"}
"""Counted in steps of hundreds, as a sign of progress: their rates would jump."""
_NOT_SHOWN = {
    "age",
    "episode_return",
    "episode_length",
    "gradient_norm",
    "limiter_error",
    "priority",
    "solved",
}


_OF_TASKS = ("evaluation_", "episode_return/", "episode_length/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """Everything the live view shows."""

    topology: Topology
    progress: Progress
    statistics: SystemStatistics | None
    """None until the actors have started."""
    returns: Mapping[str, float]
    """Mean episode return by explorer, where there are several."""
    handled_per_second: Mapping[str, float]
    """By actor."""
    state: str
    """Such as "stopping" or "solved"; "" while the run is running."""
    ended: bool


def draw(dashboard: Dashboard, width: int) -> RenderableType:
    """A frame, `width` columns wide, with the progress to each limit, the readings, and the actors."""
    parts: list[RenderableType] = []
    if (limits := _limits(dashboard)).row_count:
        parts += [limits, ""]
    if readings := [Text.assemble((f"{label} ", "dim"), value) for label, value in _readings(dashboard)]:
        parts += [Columns(readings, padding=(0, 3)), ""]
    if dashboard.statistics is not None:
        parts += [_actors(dashboard, dashboard.statistics, narrow=width < NARROW), ""]
    title = Text.assemble((dashboard.topology.name, "bold"), (f"  seed {dashboard.topology.seed}", "dim"))
    colour = "green" if dashboard.progress.solved else "yellow"
    state = f"{dashboard.state}  " if dashboard.state else ""
    at = Text.assemble((state, colour), clock(dashboard.progress.wall_seconds))
    return Panel(
        Group(*parts[:-1]),
        title=title,
        title_align="left",
        subtitle=at,
        subtitle_align="right",
        border_style="dim",
        padding=(1, 2),
        width=width,
    )


def _limits(dashboard: Dashboard) -> Table:
    """Counts, each with a progress bar where [stop] bounds it."""
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1, max_width=40)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True, style="cyan", min_width=8)
    progress, stop = dashboard.progress, dashboard.topology.stop
    for name, label in _labels(progress.counts).items():
        limit = getattr(stop, name, None)
        if name in progress.counts or limit is not None:
            done = progress.counts.get(name, 0)
            bounded = f"{done:,} / {limit:,}" if limit is not None else f"{done:,}"
            table.add_row(label, _bar(done, limit), bounded, _rate(dashboard, progress.rates.get(name, 0.0)))
    if stop.wall_seconds is not None:
        bounded = f"{clock(progress.wall_seconds)} / {clock(stop.wall_seconds)}"
        table.add_row("time", _bar(progress.wall_seconds, stop.wall_seconds), bounded)
    for row in _evaluation_rows(progress, stop.solved):
        table.add_row(*row)
    return table


def _labels(counts: Mapping[str, int]) -> dict[str, str]:
    """The counts that are shown: those that [stop] may bound, and those of a user's own actors."""
    others = [
        name
        for name in counts
        if name not in _LIMITED and name not in _COUNTS_NOT_SHOWN and not name.startswith("gradients_")
    ]
    return _LIMITED | {name: name.replace("_", " ") for name in others[:MOST_COUNTS]}


def _evaluation_rows(progress: Progress, solved: Solved | None) -> Iterator[tuple[RenderableType, ...]]:
    """Evaluation return against its target; with several tasks, a row for each."""
    wanted = solved.mean_return if solved is not None else None
    if isinstance(wanted, dict) or progress.tasks:
        marks = wanted if isinstance(wanted, dict) else {}
        for task in dict.fromkeys([*progress.tasks, *marks]):
            yield _evaluation_row(task, progress.tasks.get(task), marks.get(task), progress.solved)
    elif wanted is not None or progress.evaluation is not None:
        heading = "solved" if progress.solved else "evaluation"
        yield _evaluation_row(heading, progress.evaluation, wanted, progress.solved)


def _evaluation_row(
    heading: str, evaluation: Evaluation | None, target: float | None, solved: bool
) -> tuple[RenderableType, ...]:
    mean = figure(evaluation.return_mean) if evaluation is not None else "–"
    spread = f"± {figure(evaluation.return_std)}" if evaluation is not None else ""
    bounded = f"{mean} / {target:g}" if target is not None else mean
    done = evaluation.return_mean if evaluation is not None else 0.0
    return Text(heading, "green" if solved else ""), _bar(done, target), bounded, Text(spread, "dim")


def _rate(dashboard: Dashboard, per_second: float) -> str:
    return rate(per_second) if not dashboard.ended else ""


def _bar(done: float, limit: float | None) -> RenderableType:
    if limit is None or limit <= 0 or done < 0:
        return ""
    return ProgressBar(total=limit, completed=min(done, limit), complete_style="cyan")


def _readings(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """Label and value of each gauge; those of the built-in roles first, in a fixed order."""
    gauges = dashboard.progress.gauges
    yield from _returns(dashboard)
    for name, label in _READINGS.items():
        if name in gauges:
            yield label, figure(gauges[name])
    if outcomes := gradients(dashboard.progress.counts):
        yield "gradients", outcomes
    for name, label in _IN_BYTES.items():
        if name in gauges:
            yield label, size(gauges[name])
    for name, value in gauges.items():
        if (
            name not in _READINGS
            and name not in _IN_BYTES
            and name not in _NOT_SHOWN
            and not name.startswith(_OF_TASKS)
        ):
            yield name.replace("_", " "), figure(value)


def _returns(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """Mean episode return of each group of explorers, with the least and the greatest of its members; with
    several tasks, of each task."""
    if of_tasks := task_returns(dashboard.progress):
        for task, value in of_tasks.items():
            yield f"return of {task}", figure(value)
        return
    groups: dict[str, list[float]] = {}
    for actor, value in dashboard.returns.items():
        groups.setdefault(_declared(actor, dashboard.topology), []).append(value)
    for group, values in groups.items():
        label = f"return of {group}" if len(groups) > 1 else "return"
        mean = figure(sum(values) / len(values))
        yield label, f"{mean} ({figure(min(values))} … {figure(max(values))})" if len(values) > 1 else mean
    if not groups and "episode_return" in dashboard.progress.gauges:
        yield "return", figure(dashboard.progress.gauges["episode_return"])


def _actors(dashboard: Dashboard, statistics: SystemStatistics, narrow: bool) -> RenderableType:
    """A row for each declared actor; its members are added up."""
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim")
    table.add_column("actor", no_wrap=True, ratio=1)
    for heading in ("waiting", "handled", "restarts") if narrow else _ACTOR_COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    declared: dict[str, list[ActorStatistics]] = {}
    for actor in statistics.actors:
        declared.setdefault(_declared(actor.name, dashboard.topology), []).append(actor)
    for name, members in list(declared.items())[:MOST_ACTORS]:
        restarts = sum(member.restarts for member in members)
        down = sum(not member.alive for member in members)
        handled_per_second = sum(dashboard.handled_per_second.get(member.name, 0.0) for member in members)
        cells: list[RenderableType] = [
            Text.assemble(
                name if len(members) == 1 else f"{name} × {len(members)}",
                (f"  {down} down" if down and not dashboard.state else "", "red"),
            ),
            f"{sum(member.mailbox.unread for member in members):,}",
            f"{sum(member.mailbox.handled for member in members):,}",
            _rate(dashboard, handled_per_second),
            Text(f"{restarts:,}", "yellow" if restarts else ""),
        ]
        if narrow:
            del cells[_ACTOR_COLUMNS.index("per second") + 1]
        table.add_row(*cells)
    notes = []
    if len(declared) > MOST_ACTORS:
        notes.append(Text(f"and {counted(len(declared) - MOST_ACTORS, 'actor')} more", "dim"))
    if statistics.dead_letters:
        notes.append(Text(counted(statistics.dead_letters, "dead letter"), "yellow"))
    if statistics.transport.refused:
        notes.append(Text(f"{counted(statistics.transport.refused, 'connection')} refused", "yellow"))
    return Group(table, *notes)


def _declared(member: str, topology: Topology) -> str:
    """The name in the topology file: `explorer` for `edge.1.explorer.0`."""
    name = declared_name(member)
    return name if name in topology.actors else member
