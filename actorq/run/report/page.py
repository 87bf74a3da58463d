"""report.html: one page with a run's results, made from the files in its folder."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from actorq.run.formatting import duration, number
from actorq.run.records.distributions import read_distributions
from actorq.run.records.folder import RunFolder, RunFolderError, write_atomically
from actorq.run.records.metrics import read_rows
from actorq.run.records.recorder import Row
from actorq.run.records.summary import Summary, read_summary
from actorq.topology import TopologyError, check, draw, to_mermaid

from .charts import COLOURS, BarChart, Chart
from .panels import evaluation_charts, other_charts, task_names

_WIDE, _HALF = (1080, 300), (520, 220)
"""Width and height of a chart, in pixels."""


def write_report(folder: RunFolder) -> None:
    """Write the folder's report.html from its topology.toml, metrics.jsonl, summary.json and histograms.json.

    One file that loads nothing else, for light and dark screens. Raises RunFolderError if one of them can't
    be read; metrics and histograms may be missing.
    """
    try:
        topology = folder.topology.read_text(encoding="utf-8")
        tables = tomllib.loads(topology)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{folder.topology}: can't be read: {error}") from error
    summary, rows = read_summary(folder.summary), read_rows(folder.metrics)
    distributions = read_distributions(folder.histograms)
    charts = [_figure(chart, _WIDE, "card wide") for chart in evaluation_charts(rows, tables)]
    tasks = task_names(tables)
    charts += [_figure(chart, _HALF, "card") for chart in other_charts(rows, distributions, tasks)]
    body = [
        _header(summary),
        f'<dl class="tiles">{"".join(_tiles(summary))}</dl>',
        "<h2>Curves</h2>",
        f'<div class="charts">{"".join(charts)}</div>' if charts else _nothing_recorded(rows),
        f'<h2>Actors</h2><div class="card">{_actors(summary)}</div>',
        f'<h2>Topology</h2><div class="card">{_topology(folder.topology, topology)}</div>',
        "<footer>Made by actorq from the topology, metrics, summary and histograms beside it.</footer>",
    ]
    write_atomically(folder.report, _page(summary.name, "\n".join(body)).encode())


def _page(title: str, body: str) -> str:
    from .drawing import STYLE_SHEET

    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · actorq</title>\n<style>\n{STYLE_SHEET}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _header(summary: Summary) -> str:
    if summary.stopped_by == "failure":
        kind, result = "bad", "failed"
    elif summary.solved:
        kind, result = "good", "solved"
    else:
        kind, result = "", f"ended by {summary.stopped_by.replace('_', ' ')}"
    return (
        f'<header><h1>{escape(summary.name)}</h1><span class="outcome {kind}">{escape(result)}</span>'
        f'<span class="soft">seed {summary.seed}</span></header>'
    )


def _tiles(summary: Summary) -> Iterator[str]:
    if summary.evaluation_return_mean is not None and not summary.tasks:
        spread = f"± {summary.evaluation_return_std:.4g} over {summary.evaluation_episodes} episodes"
        yield _tile("Evaluation return", f"{summary.evaluation_return_mean:.5g}", spread)
    for name, task in summary.tasks.items():
        spread = f"± {task.return_std:.4g} over {task.episodes} episodes"
        yield _tile(f"Return of {escape(name)}", f"{task.return_mean:.5g}", spread)
    yield _tile("Wall time", duration(summary.wall_seconds), "since the command's start")
    per_second = f"{number(summary.env_steps_per_second)} per second"
    yield _tile("Environment steps", f"{summary.env_steps:,}", per_second)
    yield _tile("Updates", f"{summary.updates:,}", f"{number(summary.updates_per_second)} per second")
    yield _tile("Episodes", f"{summary.episodes:,}", "of the explorers")
    if summary.staleness is not None:
        stale = summary.staleness
        rest = f"99 %: {number(stale.p99)} · most: {number(stale.max)} updates"
        yield _tile("Staleness, median", number(stale.p50), rest)
    yield _tile("Dead letters", f"{summary.dead_letters:,}", f"{summary.restarts:,} restarts")


def _tile(name: str, value: str, rest: str) -> str:
    return f"<div><dt>{name}</dt><dd>{escape(value)}<small>{escape(rest)}</small></dd></div>"


def _figure(chart: Chart | BarChart, size: tuple[int, int], kind: str) -> str:
    from .drawing import to_svg  # not before: importing matplotlib takes half a second

    note = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
    svg = to_svg(chart, *size) + (_legend(chart) if isinstance(chart, Chart) else "")
    return f'<section class="{kind}"><h3>{escape(chart.title)}</h3>{note}{svg}</section>'


def _legend(chart: Chart) -> str:
    unexplained = chart.lines[0].band and not chart.level and not chart.note
    if len(chart.lines) == 1 and not chart.named and not unexplained:
        return ""
    entries = (
        f'<li style="--colour: var(--line-{index % COLOURS})">{escape(line.label)}</li>'
        for index, line in enumerate(chart.lines)
    )
    return f'<ul class="legend">{"".join(entries)}</ul>'


def _nothing_recorded(rows: Sequence[Row]) -> str:
    why = "its rows hold no readings" if rows else "it has no rows"
    return f'<p class="soft">There is nothing in metrics.jsonl to draw: {why}.</p>'


def _actors(summary: Summary) -> str:
    rows = [
        f"<tr><td>{escape(name)}</td><td>{actor.messages_in:,}</td><td>{actor.messages_out:,}</td>"
        f"<td{' class=bad' if actor.restarts else ''}>{actor.restarts:,}</td></tr>"
        for name, actor in summary.actors.items()
    ]
    head = "<tr><th>actor</th><th>messages in</th><th>messages out</th><th>restarts</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _topology(path: Path, text: str) -> str:
    """The drawing and the file; only the file if a role's module can no longer be imported."""
    file = f"<details><summary>topology.toml, as it ran</summary><pre>{escape(text)}</pre></details>"
    try:
        plan = check(path)
    except TopologyError:
        return file.replace("<details>", "<details open>")
    mermaid = f"<details><summary>as Mermaid</summary><pre>{escape(to_mermaid(plan))}</pre></details>"
    return f"<pre>{escape(draw(plan))}</pre>{file}{mermaid}"
