"""Rows reach metrics.jsonl and TensorBoard, and a failure to write them doesn't reach the run."""

import logging
import math
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from actorq.actors.histogram import Distribution, Histogram
from actorq.run.records.folder import RunFolder
from actorq.run.records.metrics import LineWriter, Metrics, read_rows
from actorq.run.records.recorder import Entry, Row
from actorq.run.records.tensorboard import TensorBoard

ROWS: list[Row] = [{"wall_seconds": float(n), "env_steps": 100 * n, "loss": 1 / (n + 1)} for n in range(50)]


def events(folder: Path) -> list[Any]:
    """All events of a folder, its files in order."""
    files = sorted(folder.glob("events.out.tfevents.*"))
    return [Event.FromString(raw) for file in files for raw in RawEventFileLoader(str(file)).Load()]


def test_rows_are_written_in_order(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with closing(Metrics(folder)) as metrics:
        for row in ROWS:
            metrics.write(row)
    metrics.close()  # once more does nothing
    assert read_rows(folder.metrics) == ROWS


def test_events_hold_each_scalar_by_environment_steps(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path / "events")
    board.add(map(Entry, ROWS[:2]))
    assert not (tmp_path / "events").exists(), "nothing is imported or written before the first flush"
    board.add(map(Entry, ROWS[2:]))
    board.close()
    version, *scalars = events(tmp_path / "events")
    assert version.file_version == "brain.Event:2"
    assert [event.step for event in scalars] == [row["env_steps"] for row in ROWS]
    found = [{value.tag: value.simple_value for value in event.summary.value} for event in scalars]
    assert found == [pytest.approx(row) for row in ROWS]


observed = st.lists(
    st.floats(-1e6, 1e6) | st.integers(0, 30).map(float) | st.floats(1e-6, 1e3).map(lambda x: x**2),
    min_size=1,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(observed)
def test_histograms_hold_all_that_was_observed(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("events")
    histogram = Histogram()
    histogram.add(np.array(values))
    nothing = Distribution(not_finite=1)
    with closing(TensorBoard(folder)) as board:
        board.add([Entry({"env_steps": 7}, {"age": histogram.distribution(), "none": nothing})])
    _, event = events(folder)
    (value,) = (value for value in event.summary.value if value.tag.startswith("distributions/"))
    assert (event.step, value.tag) == (7, "distributions/age")
    found = value.histo
    assert (found.num, sum(found.bucket)) == (len(values), len(values))
    assert found.sum == pytest.approx(sum(values), abs=1e-6)
    assert found.sum_squares == pytest.approx(sum(value**2 for value in values), rel=1 / 256)
    edges = [found.min, *found.bucket_limit[:-1], found.max]
    assert all(low < high for low, high in pairwise(edges)), "as TensorBoard reads them"
    rounding = 1e-12 * max(map(abs, values)) + 1e-150
    assert found.min <= min(values) + rounding
    assert found.max >= max(values) - rounding


def test_no_rows_make_no_events(tmp_path: Path) -> None:
    TensorBoard(tmp_path / "events").close()
    assert not (tmp_path / "events").exists()


def test_a_resumed_run_drops_what_it_goes_through_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with closing(Metrics(folder)) as metrics:
        for row in ROWS:
            metrics.write(row)
    with folder.metrics.open("ab") as file:
        file.write(b'{"wall_seconds": 3, "env_st')  # as a crash leaves it
    again: Row = {"wall_seconds": 10.5, "env_steps": 1010}
    with closing(Metrics(folder, resumed_at=10.0)) as metrics:
        metrics.write(again)
    assert read_rows(folder.metrics) == [*ROWS[:11], again]
    starts = [event for event in events(folder.tensorboard) if event.session_log.status == SessionLog.START]
    assert [event.step for event in starts] == [1010], "TensorBoard drops the steps from here on, too"


def test_values_json_lacks_are_read_as_nan(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with closing(Metrics(folder)) as metrics:
        metrics.write({"loss": math.nan, "limiter_error": math.inf})
    (row,) = read_rows(folder.metrics)
    assert all(map(math.isnan, row.values()))


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_one_sinks_failure_is_logged_once_and_leaves_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(board: TensorBoard, entries: Sequence[Entry]) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(TensorBoard, "add", crash)
    folder = RunFolder(tmp_path)
    with caplog.at_level(logging.ERROR), closing(Metrics(folder)) as metrics:
        for row in ROWS:
            metrics.write(row)
    assert read_rows(folder.metrics) == ROWS
    (record,) = caplog.records
    assert "TensorBoard: metrics can't be written; the run continues without" in record.getMessage()


def test_a_failure_at_the_end_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    close = LineWriter.close

    def crash(lines: LineWriter) -> None:
        close(lines)
        raise OSError("no space left")

    monkeypatch.setattr(LineWriter, "close", crash)
    with caplog.at_level(logging.ERROR), closing(Metrics(RunFolder(tmp_path))) as metrics:
        metrics.write(ROWS[0])
    assert "LineWriter: the last metrics can't be written" in caplog.text
    assert events(tmp_path / "tensorboard")


WITHOUT_FRAMEWORKS = """
import sys
from contextlib import closing
from pathlib import Path
for name in ("torch", "tensorflow"):
    sys.modules[name] = None
from actorq.run.records.folder import RunFolder
from actorq.run.records.metrics import Metrics
assert "tensorboard" not in sys.modules, "its import takes 0.2 s: not at the start"
with closing(Metrics(RunFolder(Path(sys.argv[1])))) as metrics:
    metrics.write({"loss": 1.0})
assert "grpc" not in sys.modules
"""


def test_neither_torch_nor_tensorflow_is_needed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_FRAMEWORKS, str(tmp_path)], check=True)
    assert events(tmp_path / "tensorboard")
