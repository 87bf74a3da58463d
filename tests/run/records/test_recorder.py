"""Recorder: actors' reports become sums, means, rows and the end of the run."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.actors.histogram import Histogram
from actorq.run.records.recorder import ROW_EVERY_COUNTS, Evaluation, Recorder, Row
from actorq.topology import Solved, Stop


class Clock:
    """Wall seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Setting:
    """A recorder, and all that it says."""

    def __init__(self, stop: Stop | None = None, deterministic: bool = False) -> None:
        self.stops: list[str] = []
        self.rows: list[Row] = []
        self.clock = Clock()
        self.recorder = Recorder(
            stop or Stop(), deterministic, self.stops.append, self.clock, self.rows.append
        )


def test_counts_are_summed_over_actors_and_kept_for_each() -> None:
    recorder = Setting().recorder
    for actor, amount in [("explorer.0", 16), ("explorer.1", 8), ("explorer.0", 4)]:
        recorder.count(actor, "env_steps", amount)
    assert recorder.counts == {"env_steps": 28}


def test_a_row_has_the_means_of_its_interval() -> None:
    setting = Setting()
    recorder = setting.recorder
    for actor, value in [("explorer.0", 10.0), ("explorer.0", 20.0), ("explorer.1", 60.0)]:
        recorder.gauge(actor, "episode_return", value)
    recorder.gauge("learner", "loss", 0.5)
    recorder.count("learner", "updates", 30)
    setting.clock.now = 2.0
    assert recorder.row() == {
        "wall_seconds": 2.0,
        "updates": 30,
        "updates_per_second": 15.0,
        "loss": 0.5,
        "episode_return": 30.0,
        "episode_return/explorer.0": 15.0,
        "episode_return/explorer.1": 60.0,
    }
    recorder.gauge("explorer.1", "episode_return", 80.0)
    recorder.count("learner", "updates", 5)
    setting.clock.now = 2.5
    assert recorder.row() == {
        "wall_seconds": 2.5,
        "updates": 35,
        "updates_per_second": 10.0,
        "episode_return": 80.0,
        "episode_return/explorer.1": 80.0,
    }


def test_progress_keeps_what_the_last_interval_lacked() -> None:
    setting = Setting()
    recorder = setting.recorder
    recorder.gauge("learner", "loss", 0.25)
    recorder.count("learner", "updates", 1)
    setting.clock.now = 1.0
    recorder.row()
    recorder.count("learner", "updates", 2)
    setting.clock.now = 1.5
    recorder.row()
    recorder.count("learner", "updates", 4)
    progress = recorder.progress()
    assert progress.counts == {"updates": 7}
    assert progress.rates == {"updates": 4.0}
    assert progress.gauges == {"loss": 0.25}
    assert progress.wall_seconds == 1.5
    assert (progress.evaluation, progress.solved, progress.stopped_by) == (None, False, None)


@pytest.mark.parametrize("name", ["env_steps", "updates", "episodes"])
def test_a_limit_ends_the_run_in_the_count_that_reaches_it(name: str) -> None:
    setting = Setting(Stop(**{name: 100}))  # type: ignore[arg-type]
    setting.recorder.count("a", name, 99)
    setting.recorder.count("a", "other", 500)
    assert setting.stops == []
    setting.recorder.count("b", name, 1)
    assert setting.stops == [name]
    setting.recorder.count("a", name, 200)
    assert setting.stops == [name], "told once"
    assert setting.recorder.stopped_by == name


def test_the_first_limit_counts() -> None:
    setting = Setting(Stop(env_steps=10, updates=10, solved=Solved(mean_return=1.0)))
    setting.recorder.count("learner", "updates", 10)
    setting.recorder.gauge("evaluator", "solved", 1.0)
    setting.recorder.count("explorer", "env_steps", 10)
    assert setting.stops == ["updates"]
    assert setting.recorder.solved


@pytest.mark.parametrize("declared", [True, False])
def test_solved_ends_the_run_where_it_is_declared(declared: bool) -> None:
    setting = Setting(Stop(solved=Solved(mean_return=475.0)) if declared else Stop())
    recorder = setting.recorder
    recorder.gauge("evaluator", "evaluation_return_mean", 480.0)
    recorder.gauge("evaluator", "evaluation_return_std", 12.0)
    recorder.gauge("evaluator", "evaluation_episodes", 20)
    recorder.gauge("evaluator", "solved", 0.0)
    assert (recorder.progress().solved, setting.stops) == (False, [])
    recorder.gauge("evaluator", "solved", 1.0)
    assert recorder.progress().solved
    assert setting.stops == (["solved"] if declared else [])
    assert recorder.progress().evaluation == Evaluation(480.0, 12.0, 20)


def test_each_task_has_an_evaluation_of_its_own() -> None:
    recorder = Setting(Stop()).recorder
    for task, mean in (("", 200.0), ("/cartpole", 500.0), ("/acrobot", -100.0)):
        recorder.gauge("evaluator", f"evaluation_return_mean{task}", mean)
        recorder.gauge("evaluator", f"evaluation_return_std{task}", 2.0)
        recorder.gauge("evaluator", f"evaluation_episodes{task}", 20)
    progress = recorder.progress()
    assert progress.evaluation == Evaluation(200.0, 2.0, 20)
    assert progress.tasks == {"cartpole": Evaluation(500.0, 2.0, 20), "acrobot": Evaluation(-100.0, 2.0, 20)}


def drive(setting: Setting, seconds: Sequence[float]) -> None:
    for step, elapsed in enumerate(seconds):
        setting.clock.now += elapsed
        setting.recorder.gauge("learner", "loss", 1 / (step + 1))
        setting.recorder.count(f"explorer.{step % 2}", "env_steps", 7 * step)
        setting.recorder.count("learner", "updates", step)


@given(st.lists(st.floats(0, 10), min_size=60, max_size=60))
def test_deterministic_rows_come_by_counts_alone(seconds: list[float]) -> None:
    slow, even = Setting(deterministic=True), Setting(deterministic=True)
    drive(slow, seconds)
    drive(even, [1.0] * 60)

    def timeless(rows: list[Row]) -> list[dict[str, float]]:
        clocks = ("wall_seconds", "_per_second")
        return [{name: value for name, value in row.items() if not name.endswith(clocks)} for row in rows]

    assert timeless(slow.rows) == timeless(even.rows)
    totals = [int(row["env_steps"] + row.get("updates", 0)) for row in even.rows]
    marks = [total // ROW_EVERY_COUNTS for total in totals]
    assert marks == sorted(set(marks)), "one row for each multiple passed"
    assert len(marks) == sum(8 * step for step in range(60)) // ROW_EVERY_COUNTS


def test_other_runs_make_no_rows_of_their_own() -> None:
    setting = Setting()
    setting.recorder.count("a", "env_steps", 5 * ROW_EVERY_COUNTS)
    assert setting.rows == []


def test_a_resumed_run_continues() -> None:
    before = Setting(deterministic=True)
    drive(before, [1.0] * 30)
    before.recorder.gauge("evaluator", "evaluation_return_mean", 9.0)
    before.recorder.gauge("replay", "staleness", 3)
    after = Setting(Stop(updates=500), deterministic=True)
    after.recorder.load_state(before.recorder.state())
    assert after.recorder.wall_seconds == 30.0
    assert after.recorder.progress().evaluation == Evaluation(9.0, 0.0, 0)
    assert after.recorder.distributions() == before.recorder.distributions()
    after.clock.now = 2.0
    for setting in (before, after):
        setting.rows.clear()
        setting.recorder.count("explorer.0", "env_steps", 1000)
    (row,), (resumed,) = before.rows, after.rows
    assert resumed["env_steps"] == row["env_steps"]
    assert resumed["wall_seconds"] == 32.0
    assert resumed["env_steps_per_second"] == 500.0, "the interval begins with the resumed run"
    after.recorder.count("learner", "updates", 100)
    assert after.stops == ["updates"], "counts go on from where they were"
    assert "staleness" not in resumed, "it was observed before"
    after.recorder.gauge("replay", "staleness", 4)
    assert after.recorder.distributions()["staleness"].total == 7


def test_staleness_that_is_reported_is_observed() -> None:
    """One by one or many at once, here or in another process: the rows and the whole are the same."""
    readings = [0.0, 3.0, 3.0, 700.0, math.inf]
    reported, observed, merged = Setting().recorder, Setting().recorder, Setting().recorder
    elsewhere = Histogram()
    for value in readings:
        reported.gauge("replay", "staleness", value)
        elsewhere.add(value)
    observed.observe("replay", "staleness", np.array(readings))
    merged.merge("replay", "staleness", elsewhere.take())
    row = reported.row()
    assert row == observed.row() == merged.row()
    assert reported.distributions() == observed.distributions() == merged.distributions()
    assert row == {
        "wall_seconds": 0.0,
        "staleness_p50": 3.0,
        "staleness_p90": 700.0,
        "staleness_p99": 700.0,
        "staleness_max": 700.0,
        "staleness_not_finite": 1,
        "staleness": 706 / 4,
    }


def test_a_row_has_the_distributions_of_its_interval_and_the_run_has_them_all() -> None:
    recorder = Setting().recorder
    recorder.observe("replay.0", "age", np.array([1, 2]))
    recorder.observe("replay.1", "age", np.array([9]))
    row = recorder.row()
    assert (row["age"], row["age/replay.0"], row["age/replay.1"], row["age_max"]) == (4.0, 1.5, 9.0, 9.0)
    assert recorder.newest["age"].cells == {cell_of(1): 1, cell_of(2): 1, cell_of(9): 1}
    recorder.observe("replay.0", "age", 5)
    row = recorder.row()
    assert (row["age"], row["age_p50"], "age/replay.1" in row) == (5.0, 5.0, False)
    assert recorder.newest["age"].count == 1
    assert "age" not in recorder.row()
    assert (recorder.distributions()["age"].count, recorder.distributions()["age"].total) == (4, 17.0)


def cell_of(value: float) -> int:
    histogram = Histogram()
    histogram.add(value)
    (cell,) = histogram.distribution().cells
    return cell


def test_a_reading_goes_before_a_quantile_of_the_same_name() -> None:
    recorder = Setting().recorder
    recorder.observe("learner", "q_error", np.arange(10.0))
    recorder.gauge("evaluator", "q_error_max", 77.0)
    row = recorder.row()
    assert (row["q_error_p50"], row["q_error_max"]) == (4.0, 77.0)


def test_of_several_evaluations_in_an_interval_the_last_counts() -> None:
    recorder = Recorder(Stop(), False, lambda reason: None, lambda: 1.0)
    for mean in (130.0, 500.0):
        recorder.gauge("evaluator", "evaluation_return_mean", mean)
        recorder.gauge("learner", "loss", mean)
    row = recorder.row()
    assert (row["evaluation_return_mean"], row["loss"]) == (500.0, 315.0)
