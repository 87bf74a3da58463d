"""The live view, the progress line and the exit report show a run's readings."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from actorq.actors.statistics import ActorStatistics, MailboxStatistics, SystemStatistics
from actorq.cli.dashboard import MOST_ACTORS, Dashboard, draw
from actorq.cli.exit_report import exit_report
from actorq.cli.formatting import clock, figure, progress_line, rate
from actorq.cli.live_view import LinesAbove
from actorq.run.formatting import duration
from actorq.run.records.folder import RunFolder
from actorq.run.records.recorder import Evaluation, Progress
from actorq.run.records.summary import Summary
from actorq.topology import Solved, Stop, Topology, check, load
from tests.run.toy import Counter

PROGRESS = Progress(
    wall_seconds=754.0,
    counts={"env_steps": 62651, "updates": 3775, "episodes": 1078, "evaluations": 7, "resets": 12},
    rates={"env_steps": 9376.0, "updates": 588.0, "episodes": 77.8},
    gauges={"loss": 0.0042, "replay_size": 53429.0, "episode_return": 128.0, "surprise": 3.0},
    evaluation=Evaluation(130.7, 21.1, 20),
    solved=False,
    stopped_by=None,
)  # fmt: skip


def actor(name: str, handled: int = 0, restarts: int = 0, alive: bool = True) -> ActorStatistics:
    mailbox = MailboxStatistics(unread=3, unread_bytes=0, in_progress=0, handled=handled, refused=0)
    return ActorStatistics(name, "main", alive, restarts, restarts, mailbox, ())


def dashboard(topology: Topology, **changes: Any) -> Dashboard:
    names = [f"explorer.{index}" for index in range(4)]
    found = Dashboard(
        topology=topology,
        progress=PROGRESS,
        statistics=SystemStatistics(
            (actor("replay", 7941, restarts=2), *(actor(name, 100) for name in names)), 0, 0
        ),
        returns={name: 100.0 + index for index, name in enumerate(names)},
        handled_per_second={"replay": 1273.0},
        state="",
        ended=False,
    )
    return replace(found, **changes)


def drawn(found: Dashboard, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, height=60)
    console.print(draw(found, width))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.fixture(scope="module")
def hierarchical() -> Topology:
    return load("hierarchical")


@pytest.mark.parametrize("width", [30, 45, 80, 140])
def test_it_fits_the_terminal(width: int, hierarchical: Topology) -> None:
    lines = drawn(dashboard(hierarchical), width).splitlines()
    assert {len(line) for line in lines} == {width}


def test_what_it_shows(hierarchical: Topology) -> None:
    text = drawn(dashboard(hierarchical), 100)
    for words in (
        "hierarchical  seed 0",
        "62,651 / 300,000",
        "9,376/s",
        "130.7 / 475",
        "± 21.1",
        "return 101.5 (100.0 … 103.0)",
        "loss 4.2e-03",
        "surprise 3.00",
        "resets",
        "explorer × 4",
        "1,273/s",
        "12:34",
    ):
        assert words in text
    assert "evaluations" not in text
    assert "down" not in text
    replay = next(line for line in text.splitlines() if "replay  " in line and "7,941" in line)
    assert replay.split()[1:-1] == ["replay", "3", "7,941", "1,273/s", "2"]


def test_gradients_are_one_reading(hierarchical: Topology) -> None:
    counts = {"updates": 40, "gradients_accepted": 1234, "gradients_stale": 12, "gradients_late": 0}
    counts |= {"shard_updates": 1500, "stage_updates": 2500}
    gauges = {"bytes_in_per_update": 1.7e6, "bytes_out_per_update": 6.8e6, "stage_bytes_sent": 163840.0}
    progress = msgspec.structs.replace(PROGRESS, counts=counts, gauges=gauges)
    text = drawn(dashboard(hierarchical, progress=progress), 100)
    assert "gradients 1,234 accepted, 12 stale" in text
    assert "in per update 1.7 MB" in text
    assert "out per update 6.8 MB" in text
    assert "stages sent 164 kB" in text
    assert "shard updates" not in text
    assert "stage updates" not in text
    assert "gradients accepted" not in text
    assert "bytes" not in text
    assert "gradients 1,234 accepted, 12 stale" in progress_line(progress)


def test_each_task_is_shown(hierarchical: Topology) -> None:
    tasks = {"cartpole": Evaluation(130.7, 21.1, 20), "acrobot": Evaluation(-90.0, 5.0, 20)}
    gauges = {"episode_return": 7.0, "episode_return/cartpole": 101.0, "episode_length/cartpole": 101.0}
    progress = msgspec.structs.replace(PROGRESS, gauges=gauges, tasks=tasks)
    stop = Stop(solved=Solved(mean_return={"cartpole": 475.0, "gridworld": 0.5}))
    topology = msgspec.structs.replace(hierarchical, stop=stop)
    text = drawn(dashboard(topology, progress=progress), 100)
    rows = {line.split()[1]: line for line in text.splitlines() if len(line.split()) > 2}
    assert "130.7 / 475" in rows["cartpole"]
    assert "-90.0" in rows["acrobot"]
    assert "– / 0.5" in rows["gridworld"]
    assert "return of cartpole 101.0" in text
    assert "evaluation" not in text
    assert "length" not in text
    line = progress_line(progress)
    assert "return cartpole 101.0" in line
    assert "evaluation cartpole 130.7, acrobot -90.0" in line


def test_states(hierarchical: Topology) -> None:
    assert "starting  12:34" in drawn(dashboard(hierarchical, state="starting", statistics=None), 80)
    dead = SystemStatistics((actor("replay", alive=False),), 2, 1)
    assert "replay  1 down" in drawn(dashboard(hierarchical, statistics=dead), 80)
    assert "3 dead letters" in drawn(dashboard(hierarchical, statistics=dead), 80)
    ended = drawn(dashboard(hierarchical, statistics=dead, state="solved", ended=True), 80)
    assert "down" not in ended
    assert "/s" not in ended


def test_many_actors_are_not_all_drawn(hierarchical: Topology) -> None:
    many = SystemStatistics(tuple(actor(f"actor{index}") for index in range(MOST_ACTORS + 5)), 0, 0)
    text = drawn(dashboard(hierarchical, statistics=many), 80)
    assert "actor11" in text
    assert "actor12" not in text
    assert "and 5 actors more" in text


def test_members_in_all_instances_of_a_group_are_one_actor() -> None:
    actors = {"explorer": {"role": Counter, "count": 2}, "replay": {"role": Counter}}
    group = {"edge": {"actors": list(actors), "count": 2}}
    topology = load({"actors": actors, "groups": group})
    names = [spec.name for spec in check(topology).specs]
    statistics = SystemStatistics(tuple(actor(name, handled=10) for name in names), 0, 0)
    returns = {name: float(index) for index, name in enumerate(names[:4])}
    text = drawn(dashboard(topology, statistics=statistics, returns=returns), 100)
    rows = [line.split()[1:6] for line in text.splitlines()]
    assert ["explorer", "×", "4", "12", "40"] in rows
    assert ["replay", "×", "2", "6", "20"] in rows
    assert "return 1.50 (0.00 … 3.00)" in text


def test_a_target_below_zero_has_no_bar(hierarchical: Topology) -> None:
    stop = Stop(solved=Solved(mean_return=-110.0))
    text = drawn(dashboard(msgspec.structs.replace(hierarchical, stop=stop)), 80)
    assert "130.7 / -110" in text
    assert "━" not in text


def test_a_narrow_terminal_still_shows_names(hierarchical: Topology) -> None:
    text = drawn(dashboard(hierarchical), 48)
    assert "explorer × 4" in text
    assert "7,941" in text
    assert "per second" not in text


def test_lines_for_above_the_view_are_kept_whole() -> None:
    above = LinesAbove()
    assert above.take() == ""
    print("one", "two", file=above)
    print("three", end="", file=above)
    assert above.take() == "one two"
    assert above.take() == ""
    print(" four\nfive", file=above)
    assert above.take() == "three four\nfive"


def test_one_line_of_progress() -> None:
    assert progress_line(PROGRESS) == (
        "12 min 34 s  env steps 62,651 (9,376/s)  updates 3,775 (588/s)  return 128.0  loss 4.2e-03"
        "  evaluation 130.7 ± 21.1"
    )
    nothing = msgspec.structs.replace(PROGRESS, counts={}, gauges={}, evaluation=None, wall_seconds=1.0)
    assert progress_line(nothing) == "1.0 s"


@pytest.mark.parametrize(
    ("stopped_by", "solved", "words"),
    [
        ("solved", True, "solved after 1 min 01 s"),
        ("env_steps", False, "reached env_steps after"),
        ("interrupt", False, "interrupted after"),
        ("failure", False, "failed after"),
    ],
)
def test_the_exit_report(stopped_by: str, solved: bool, words: str, tmp_path: Path) -> None:
    summary = Summary(
        name="demo",
        seed=3,
        stopped_by=stopped_by,
        solved=solved,
        env_steps=1000,
        updates=10,
        episodes=5,
        wall_seconds=61.0,
        env_steps_per_second=16.4,
        updates_per_second=0.16,
        evaluation_return_mean=475.5,
        evaluation_return_std=None,
        evaluation_episodes=20,
        restarts=1,
        dead_letters=0,
        staleness=None,
        actors={},
    )
    folder = RunFolder(tmp_path / "a run")
    text = exit_report(summary, folder)
    assert text.startswith(f"demo, seed 3: {words}")
    assert "return 475.5 ± 0.00 in 20 greedy episodes" in text
    assert "1,000 environment steps (16.4/s)" in text
    assert "1 restart, 0 dead letters" in text
    assert "actorq " not in text, "there is no checkpoint to go on from"
    folder.checkpoints.mkdir(parents=True)
    text = exit_report(summary, folder)
    assert f"actorq eval '{folder.path}'" in text
    assert ("--resume" in text) == (stopped_by in ("interrupt", "failure"))


def test_figures() -> None:
    assert [duration(seconds) for seconds in (9.44, 59.9, 125.0, 11520.0)] == [
        *("9.4 s", "59.9 s", "2 min 05 s", "3 h 12 min")
    ]  # fmt: skip
    assert [clock(seconds) for seconds in (0.0, 59.9, 61.0, 3725.0)] == ["0:00", "0:59", "1:01", "1:02:05"]
    assert [rate(value) for value in (0.0, 2.49, 99.9, 4049.6)] == ["0.0/s", "2.5/s", "99.9/s", "4,050/s"]
    assert [figure(value) for value in (0.0, 18416.7, -107.23, 0.774, 3.1e-5)] == [
        *("0.00", "18,417", "-107.2", "0.77", "3.1e-05")
    ]  # fmt: skip
