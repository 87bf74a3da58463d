"""The report is one file and shows the run's results."""

import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.actors.histogram import Distribution, Histogram
from actorq.run.formatting import number, size
from actorq.run.records.distributions import Quantiles, write_distributions
from actorq.run.records.folder import RunFolder, RunFolderError
from actorq.run.records.metrics import read_rows
from actorq.run.records.recorder import Row
from actorq.run.records.summary import ActorSummary, Summary, write_summary
from actorq.run.report.bins import bins_of
from actorq.run.report.charts import BarChart, Chart, ChartLine
from actorq.run.report.drawing import to_svg
from actorq.run.report.page import write_report
from actorq.run.report.panels import evaluation_charts, other_charts, task_names

TOPOLOGY = """
name = "demo"
[stop]
solved = { return = 475.0, episodes = 20 }
[actors.thing]
role = "tests.run.nowhere:Thing"
"""
SUMMARY = Summary(
    name="demo <script>",
    seed=3,
    stopped_by="env_steps",
    solved=False,
    env_steps=120_000,
    updates=4000,
    episodes=300,
    wall_seconds=75.0,
    env_steps_per_second=1600.0,
    updates_per_second=53.3,
    evaluation_return_mean=480.25,
    evaluation_return_std=5.5,
    evaluation_episodes=20,
    restarts=2,
    dead_letters=7,
    staleness=Quantiles(p50=12, p90=30, p99=80, max=100),
    actors={"explorer.0": ActorSummary(messages_in=11, messages_out=12_345, restarts=2)},
)


def rows(count: int = 60, actors: int = 4) -> list[Row]:
    rng = random.Random(0)
    made: list[Row] = []
    for n in range(1, count + 1):
        row: Row = {"wall_seconds": n, "env_steps": 2000 * n, "updates": 60 * n, "loss": 10.0 ** -(n % 5)}
        row |= {"env_steps_per_second": 2000.0, "updates_per_second": 60.0, "curiosity": rng.random()}
        row |= {f"episode_return/explorer.{i}": n + i for i in range(actors)}
        row["episode_return"] = n + (actors - 1) / 2
        if n % 10 == 0:
            row |= {
                "evaluation_return_mean": 8.0 * n,
                "evaluation_return_std": 20.0,
                "evaluation_episodes": 20,
            }
        made.append(row)
    return made


def report(folder: Path, made: list[Row], summary: Summary = SUMMARY, topology: str = TOPOLOGY) -> str:
    run = RunFolder(folder)
    run.topology.write_text(topology)
    run.metrics.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in made))
    write_summary(run.summary, summary)
    write_report(run)
    return run.report.read_text()


def curves(made: list[Row]) -> dict[str, Chart]:
    """All line charts but the evaluation's, by title."""
    return {chart.title: chart for chart in other_charts(made) if isinstance(chart, Chart)}


class PageReader(HTMLParser):
    """Tags that stay open, and whatever would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [
            name
            for name, value in attrs
            if name in ("src", "href", "data", "action") and not (value or "").startswith("#")
        ]
        self.loads += [tag] if tag in ("script", "link", "iframe", "object", "img") else []
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    page = report(tmp_path, rows())
    reader = PageReader()
    reader.feed(page)
    assert (reader.open, reader.loads) == ([], [])
    assert "url(" not in page.replace("url(#", "")
    assert "@import" not in page
    assert "demo &lt;script&gt;" in page
    for shown in ("ended by env steps", "480.25", "120,000", "1 min 15 s", "12,345", "solved at 475"):
        assert shown in page
    for title in ("Evaluation return", "Episode return", "Loss", "Updates per second", "Curiosity"):
        assert f"<h3>{title}</h3>" in page
    assert "tests.run.nowhere:Thing" in page, "the file is shown even where a role can't be found"


def test_a_topology_that_can_be_checked_is_drawn(tmp_path: Path) -> None:
    topology = '[actors.counter]\nrole = "tests.run.counter:Counter"\n'
    page = report(tmp_path, rows(), topology=topology)
    assert "┌ main" in page
    assert "flowchart LR" in page


@pytest.mark.parametrize(
    ("stopped_by", "solved", "outcome"),
    [("solved", True, "good"), ("failure", True, "bad"), ("wall_seconds", False, "")],
)
def test_the_outcome_is_seen_at_once(tmp_path: Path, stopped_by: str, solved: bool, outcome: str) -> None:
    summary = msgspec.structs.replace(SUMMARY, stopped_by=stopped_by, solved=solved)
    assert f'class="outcome {outcome}"' in report(tmp_path, rows(), summary)


def test_a_run_without_metrics_has_a_report(tmp_path: Path) -> None:
    summary = msgspec.structs.replace(SUMMARY, evaluation_return_mean=None, staleness=None)
    assert "nothing in metrics.jsonl to draw" in report(tmp_path, [], summary)


def test_it_is_made_again_from_the_folder_alone(tmp_path: Path) -> None:
    page = report(tmp_path, rows())
    folder = RunFolder(tmp_path)
    folder.report.unlink()
    write_report(folder)
    assert folder.report.read_text() == page
    folder.topology.write_text("name = ")
    with pytest.raises(RunFolderError, match=r"topology.toml: can't be read"):
        write_report(folder)


def test_each_explorer_has_its_line_unless_there_are_too_many(tmp_path: Path) -> None:
    few = curves(rows(actors=8))["Episode return"]
    assert [line.label for line in few.lines] == [f"explorer.{index}" for index in range(8)]
    many = curves(rows(actors=12))["Episode return"]
    (line,) = many.lines
    assert line.label == "mean of 12 actors, and their range"
    assert list(line.points)[:1] == [(2000, 1 + 5.5)]
    assert list(line.band)[:1] == [(1, 12)]


def test_members_are_in_the_order_of_their_numbers() -> None:
    row: Row = {"wall_seconds": 1.0, "x": 2.0, "x/e.10": 1.0, "x/e.2": 1.0, "x/e.1": 1.0}
    (chart,) = curves([row]).values()
    assert [line.label for line in chart.lines] == ["e.1", "e.2", "e.10"]


def test_the_evaluation_has_its_spread_and_the_level_to_reach() -> None:
    (chart,) = evaluation_charts(rows(20), {"stop": {"solved": {"return": 475.0}}})
    (line,) = chart.lines
    assert list(line.points) == [(20_000, 80.0), (40_000, 160.0)]
    assert list(line.band) == [(60.0, 100.0), (140.0, 180.0)]
    assert chart.level == (475.0, "solved at 475")
    assert evaluation_charts(rows(5), {}) == []


def test_each_task_has_charts_of_its_own() -> None:
    row: Row = {"wall_seconds": 1.0, "loss": 2.0, "episode_return": 50.0, "evaluation_return_mean": 200.0}
    for task, value in (("cartpole", 475.0), ("acrobot", -100.0)):
        row |= {f"evaluation_return_mean/{task}": value, f"evaluation_return_std/{task}": 5.0}
        row |= {f"target_scale/{task}": 7.0}
        row |= {f"episode_return/{task}": value - 10, f"episode_return/{task}/e.0": value - 20}
    topology = {
        "tasks": [{"name": "cartpole"}, {"name": "acrobot"}],
        "stop": {"solved": {"return": {"acrobot": -100.0}}},
    }
    cartpole, acrobot = evaluation_charts([row], topology)
    assert (cartpole.title, cartpole.level) == ("Evaluation return of cartpole", None)
    assert (acrobot.title, acrobot.level) == ("Evaluation return of acrobot", (-100.0, "solved at -100"))
    assert list(acrobot.lines[0].band) == [(-105.0, -95.0)]
    charts = {chart.title: chart for chart in other_charts([row], tasks=task_names(topology))}
    assert list(charts) == [
        *("Episode return of cartpole", "Episode return of acrobot", "Loss"),
        *("Scale of targets of cartpole", "Scale of targets of acrobot"),
    ]
    found = charts["Episode return of acrobot"]
    assert isinstance(found, Chart)
    assert [(line.label, list(line.points)) for line in found.lines] == [("e.0", [(1.0, -120.0)])]


def of_parameter_server() -> list[Row]:
    """Rows as they come of a coordinator and its workers; nothing came in the third interval."""
    counts = [(0, 0, 0), (90, 10, 0), (90, 10, 0), (130, 10, 60)]
    return [
        {"wall_seconds": n, "env_steps": 100 * n, "env_steps_per_second": 100.0}
        | {"bytes_in_per_update": 2e6, "bytes_out_per_update": 5e5}
        | {"gradients_accepted": taken, "gradients_scaled": scaled, "gradients_stale": stale}
        | {"staleness": 3.5, "staleness_p50": 3, "staleness_p90": 7, "staleness_p99": 9, "staleness_max": 40}
        | {"staleness_not_finite": 1, "staleness/coordinator": 3.5}
        for n, (taken, scaled, stale) in enumerate(counts)
    ]


def test_gradients_are_shown_as_shares_of_what_came() -> None:
    charts = curves(of_parameter_server())
    chart = charts["Gradients by outcome"]
    assert {line.label: list(line.points) for line in chart.lines} == {
        "accepted 130": [(100, 90.0), (300, 40.0)],
        "scaled down 10": [(100, 10.0), (300, 0.0)],
        "too stale 60": [(100, 0.0), (300, 60.0)],
    }
    assert "50 %" in to_svg(chart, 520, 220)
    chart = charts["Bytes per update"]
    assert [line.label for line in chart.lines] == ["in", "out"]
    assert "1 MB" in to_svg(chart, 520, 220)


def test_what_is_observed_has_a_chart_of_its_quantiles_and_none_for_each() -> None:
    charts = curves(of_parameter_server())
    assert list(charts)[1:] == ["Staleness", "Gradients by outcome", "Bytes per update"]
    firsts = [(line.label, line.points[0][1]) for line in charts["Staleness"].lines]
    assert firsts == [("median", 3), ("99 %", 9), ("largest", 40)]


def test_metrics_without_readings_have_no_chart() -> None:
    assert other_charts([{"wall_seconds": 1.0}], {"age": Distribution(not_finite=1)}) == []


def distribution(values: list[float]) -> Distribution:
    histogram = Histogram()
    histogram.add(np.array(values))
    return histogram.distribution()


def test_histograms_are_beside_their_curves(tmp_path: Path) -> None:
    age = distribution([0.0, 1.0, 1.0, 3.0, math.nan])
    write_distributions(RunFolder(tmp_path).histograms, {"staleness": distribution([2.0]), "age": age})
    page = report(tmp_path, [*rows(), *of_parameter_server()])
    titles = re.findall("<h3>(.*?)</h3>", page)
    assert titles.index("Staleness: distribution") == titles.index("Staleness") + 1
    assert "Age of sampled transitions: distribution" in titles
    assert "median 1 · 99 % up to 3 · largest 3 · 4 in all · 1 not finite, left out" in page
    assert "<title>1: 50 % (2)</title>" in page
    RunFolder(tmp_path).histograms.write_text('{"age": 3}')
    with pytest.raises(RunFolderError, match=r"histograms.json: can't be read"):
        write_report(RunFolder(tmp_path))


def numbers_in(svg: ElementTree.Element, *names: str) -> list[float]:
    """Of path data and coordinates, in pixels; those of definitions are relative to where they are used."""
    defined = {element for definitions in svg.iter("defs") for element in definitions.iter()}
    texts = [
        element.attrib.get(name, "") for element in svg.iter() if element not in defined for name in names
    ]
    return [float(text) for text in re.findall(r"[-+.\de]+", re.sub("[A-Za-df-z]", " ", " ".join(texts)))]


@settings(max_examples=10)
@given(
    st.lists(st.floats(-1e150, 1e150), min_size=1)
    | st.lists(st.floats(0, 1) | st.floats(1e-9, 1e9), min_size=1)
    | st.lists(st.integers(0, 40).map(float) | st.integers(0, 10**6).map(float), min_size=1)
)
def test_any_histogram_is_drawn_within_its_frame(values: list[float]) -> None:
    chart = BarChart("<t>", bins_of(distribution(values), 40), "a & $b$")
    svg = ElementTree.fromstring(to_svg(chart, 520, 220))
    assert svg.attrib["aria-label"] == "<t>"
    assert len(list(svg.iter("title"))) == sum(each.count > 0 for each in chart.bins.bins)
    assert all(-1 <= at <= 521 for at in numbers_in(svg, "d", "x", "y"))
    assert [text.text for text in svg.iter("text")].count("a & $b$") == 1


odd_floats = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from(
    [0.0, 1e-300, 1e300, -1e300, 1.7e308, -1.7e308, 1e199, -1e199]
)


@settings(max_examples=10)
@given(
    ys=st.lists(odd_floats, max_size=900),
    logarithmic=st.booleans(),
    level=st.none() | st.floats(-1e6, 1e6),
)
def test_any_curve_is_drawn_within_its_frame(ys: list[float], logarithmic: bool, level: float | None) -> None:
    points = [(float(x), y) for x, y in enumerate(ys)]
    line = ChartLine("<a & b>", points, [(y, y) for y in ys])
    wanted = None if level is None else (level, "wanted")
    chart = Chart('"t"', [line], "steps", level=wanted, logarithmic=logarithmic)
    svg = ElementTree.fromstring(to_svg(chart, 520, 220))
    assert all(-9 <= at <= 529 for at in numbers_in(svg, "d", "x", "y"))
    assert len(numbers_in(svg, "d")) <= 4 * 450


def test_a_gap_interrupts_the_curve() -> None:
    line = ChartLine("loss", [(0, 1.0), (1, 2.0), (2, math.nan), (3, 4.0), (4, 4.5)])
    svg = to_svg(Chart("t", [line], "steps"), 520, 220)
    (curve,) = re.findall(r'd="([^"]*)"[^>]*style="fill: none; stroke: var\(--line-0\)', svg)
    assert curve.count("M") == 2
    assert re.findall("<title>(.*?)</title>", svg)[-1] == "loss: 4.5 at 4"
    assert svg.count("<title>") == 4


def test_the_same_chart_gives_the_same_bytes_in_the_pages_colours() -> None:
    chart = Chart(
        "t", [ChartLine("a", [(0, 1.0), (1, 2.0)], [(0, 2), (1, 3)])], "steps", level=(3.0, "wanted")
    )
    svg = to_svg(chart, 520, 220)
    assert svg == to_svg(chart, 520, 220)
    assert set(re.findall(r"var\(--([\w-]+)\)", svg)) == {"line-0", "level", "rule", "soft"}
    assert not re.search('#[0-9a-f]{6}[;"]', svg)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (475.0, "475"),
        (1234567, "1.23M"),
        (12_000, "12k"),
        (9999, "9,999"),
        (0.00123, "0.00123"),
        (2351.7, "2352"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_rows_with_nothing_readable_are_no_chart(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"wall_seconds": 1, "loss": null}\n')
    assert other_charts(read_rows(tmp_path / "metrics.jsonl")) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.9, "1 kB"),
        (27_200_000, "27.2 MB"),
        (-5e9, "-5 GB"),
        (math.inf, "inf"),
    ],
)
def test_bytes_are_short(value: float, text: str) -> None:
    assert size(value) == text
