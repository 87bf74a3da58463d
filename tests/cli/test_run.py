"""`actorq run` from a shell: exit statuses, output streams, signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .command import SECONDS, TOY, Going, actorq, command, setting

STEPS = setting("stop.env_steps=2000")
SLACK = 1.0
"""Seconds between two clocks: both are read, one after the other."""
KEYS = {
    *("name", "seed", "stopped_by", "solved", "env_steps", "updates", "episodes", "wall_seconds"),
    *("env_steps_per_second", "updates_per_second", "evaluation_return_mean", "evaluation_return_std"),
    *("evaluation_episodes", "tasks", "restarts", "dead_letters", "staleness", "actors"),
}


def summary_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def test_ended_as_declared(tmp_path: Path) -> None:
    ended = actorq("run", TOY, *STEPS, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "toy, seed 0: reached env_steps after" in ended.stdout
    assert "runs/toy-1" in ended.stdout
    assert "stepper: starting" in ended.stderr
    assert "env steps 2,00" in ended.stderr, "a step or two more: others than the last may be under way"
    assert "\x1b" not in ended.stdout + ended.stderr, "colours and cursor moves are for terminals"
    log = (tmp_path / "runs" / "toy-1" / "run.log").read_text().splitlines()
    assert any("stepper: starting" in line for line in log)
    assert all(line[:4].isdigit() and "Z [info" in line for line in log), log


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_json_is_alone_on_standard_output(backend: str, tmp_path: Path) -> None:
    ended = actorq("run", TOY, *STEPS, "--json", "--backend", backend, "--out", "here", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert ended.stdout.count("\n") == 1
    assert summary.keys() == KEYS
    assert summary == summary_of(tmp_path / "here")
    assert "an actor prints" in ended.stderr


def test_wall_seconds_count_from_the_process_s_start(tmp_path: Path) -> None:
    began = time.monotonic()
    ended = actorq("run", TOY, *setting("stop.wall_seconds=1.5"), "--json", cwd=tmp_path)
    took = time.monotonic() - began
    summary = json.loads(ended.stdout)
    assert (ended.returncode, summary["stopped_by"]) == (0, "wall_seconds")
    assert 1.5 <= summary["wall_seconds"] <= took + SLACK


def test_the_process_s_start() -> None:
    code = (
        "import time; now = time.monotonic(); from actorq.cli.process_start import process_started;"
        "print(process_started(), now)"
    )
    before = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    started, first_line = map(float, ended.stdout.split())
    assert before - SLACK <= started <= first_line


@pytest.mark.parametrize(
    ("how", "error", "doing"),
    [
        ("crash_at=100", "RuntimeError: one step too far", "crashed in run"),
        ("crash_in_start=true", "RuntimeError: could not even begin", "crashed in on_start"),
    ],
)
def test_a_crash_is_reported_once(how: str, error: str, doing: str, tmp_path: Path) -> None:
    ended = actorq("run", TOY, *setting(f"actors.stepper.config.{how}"), "--json", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.count("Traceback") == 1, ended.stderr
    assert 'raise RuntimeError("' in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("actorq: the run failed: actor 'stepper'"), last
    assert doing in last
    assert error in last
    assert json.loads(ended.stdout)["stopped_by"] == "failure"
    assert "Traceback" in (tmp_path / "runs" / "toy-1" / "run.log").read_text()


def test_what_cannot_be_written_at_the_end_fails_the_run(tmp_path: Path) -> None:
    waits = setting("actors.stepper.config.stop_waits_for='go'")
    with Going("run", TOY, *waits, "--out", "here", cwd=tmp_path) as going:
        going.until("stepping")
        (tmp_path / "here" / "checkpoints").write_text("a file in the way")
        going.send(signal.SIGINT)
        (tmp_path / "go").touch()
        status, output, errors = going.end()
    assert status == 1, errors
    assert "the run failed: the run itself failed: FileExistsError" in errors
    assert "failed after" in output


def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    with Going("run", TOY, cwd=tmp_path) as going:
        going.until("stepping")
        going.send(signal.SIGINT)
        status, output, errors = going.end()
    assert status == 130, errors
    assert "Traceback" not in errors
    assert "stopping; once more skips the checkpoint" in errors
    assert "continue:       actorq run --resume runs/toy-1" in output
    run = tmp_path / "runs" / "toy-1"
    before = summary_of(run)
    assert before["stopped_by"] == "interrupt"

    more = before["env_steps"] + 1000
    ended = actorq("run", "--resume", run, *setting(f"stop.env_steps={more}"), "--json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert f"goes on from step {before['env_steps']}" in ended.stderr
    assert summary_of(run)["env_steps"] >= more
    assert f"env_steps = {more}" in (run / "topology.toml").read_text()


def test_one_run_at_a_time_writes_into_a_folder(tmp_path: Path) -> None:
    with Going(
        "run", TOY, *setting("run.checkpoint_every_seconds=0.1"), "--out", "here", cwd=tmp_path
    ) as going:
        going.until("stepping")
        ended = actorq("run", "--resume", "here", cwd=tmp_path)
    assert ended.returncode == 2
    assert "here: a run is writing into it already" in ended.stderr


def test_sigterm_stops_in_order_as_well(tmp_path: Path) -> None:
    with Going("run", TOY, "--json", cwd=tmp_path) as going:
        going.until("stepping")
        going.send(signal.SIGTERM)
        status, output, errors = going.end()
    assert status == 143, errors
    assert json.loads(output)["stopped_by"] == "interrupt"
    assert list((tmp_path / "runs" / "toy-1" / "checkpoints").iterdir())


def test_a_second_one_skips_the_checkpoint(tmp_path: Path) -> None:
    waits = setting("actors.stepper.config.stop_waits_for='go'")
    with Going("run", TOY, *waits, cwd=tmp_path) as going:
        going.until("stepping")
        going.send(signal.SIGINT)
        going.until("stopping; once more")
        going.send(signal.SIGINT)
        going.until("stopping without a checkpoint")
        (tmp_path / "go").touch()
        status, output, errors = going.end()
    assert status == 130, errors
    assert "interrupted after" in output
    assert "--resume" not in output
    run = tmp_path / "runs" / "toy-1"
    assert (run / "summary.json").exists()
    assert not (run / "checkpoints").exists()


def test_a_third_one_ends_the_process_at_once(tmp_path: Path) -> None:
    waits = setting("actors.stepper.config.stop_waits_for='never'")
    with Going("run", TOY, *waits, cwd=tmp_path) as going:
        going.until("stepping")
        for said in ("stopping; once more", "stopping without a checkpoint"):
            going.send(signal.SIGINT)
            going.until(said)
        going.send(signal.SIGINT)
        status, _, errors = going.end()
    assert status == 130
    assert "Traceback" not in errors


def test_interrupted_while_it_starts(tmp_path: Path) -> None:
    waits = setting("actors.stepper.config.start_waits_for='go'")
    with Going("run", TOY, *waits, cwd=tmp_path) as going:
        going.until("starting")
        going.send(signal.SIGINT)
        going.until("stopping")
        (tmp_path / "go").touch()
        status, output, errors = going.end()
    assert status == 130, errors
    assert "Traceback" not in errors
    assert "interrupted" in output


@pytest.mark.parametrize("terminal", ["xterm-256color", "dumb"])
def test_the_view_on_a_terminal(terminal: str, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("run", TOY, *STEPS),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": terminal},
    )
    os.close(theirs)
    shown = read_all(ours)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, shown
    assert "stepper: starting" in shown, "log lines stand above the view"
    assert "reached env_steps after" in output
    assert "\x1b" not in output
    if terminal == "dumb":
        assert "\x1b" not in shown
        assert "env steps 2,00" in shown
    else:
        assert " / 2,000" in shown
        assert "restarts" in shown
        assert "an actor prints" in shown, "above the view, not through it"
        assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is shown again"
        assert "env steps 2,00" in (tmp_path / "runs" / "toy-1" / "run.log").read_text()


def read_all(terminal: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()


@pytest.mark.parametrize("arguments", [["schema"], ["graph", "hierarchical"], ["run", TOY, *STEPS]])
def test_a_closed_pipe_makes_no_traceback(arguments: list[str], tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    ended = subprocess.run(
        command(*arguments), cwd=tmp_path, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(theirs)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr
