"""Runs with node processes, ended at any moment by any means: no process and no file is left."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from actorq.run.open_run import open_run

from .command import HERE, actorq, setting
from .traces import Marked

TEAM = str(HERE / "team.toml")
OVER_NNG = ("run", TEAM, "--transport", "nng", "--out", "here")
LATEST = 2.5
"""Seconds after which the command certainly is at work, as a rule."""

DECLARED = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (143, -signal.SIGTERM)}
"""Negative: by Python itself, before or after the run; a shell calls it the same."""

many = pytest.mark.slow


def trials(few: int, plenty: int) -> list[Any]:
    """Seeds, of which only a few are tried by default."""
    slow = [pytest.param(seed, marks=[many, pytest.mark.timeout(120)]) for seed in range(few, plenty)]
    return [*range(few), *slow]


def moment(generator: random.Random) -> float:
    """Rather often before the nodes are there, which takes as long as all that comes before the stop."""
    return generator.choice([generator.uniform(0, 0.3), generator.uniform(0.2, LATEST)])


def was_python_s_own(status: int, errors: str, cwd: Path) -> bool:
    """Interrupted before a line of ours could be run."""
    return status == 1 and "KeyboardInterrupt" in errors and not (cwd / "here").exists()


@pytest.mark.parametrize("seed", trials(4, 60))
def test_ctrl_c_at_any_moment(seed: int, tmp_path: Path) -> None:
    generator = random.Random(seed)
    number = generator.choice([signal.SIGINT, signal.SIGINT, signal.SIGTERM])
    moments = [moment(generator), *(generator.uniform(0, 1) for _ in range(generator.randrange(2)))]
    with Marked(*OVER_NNG, cwd=tmp_path) as going:
        for seconds in moments:
            time.sleep(seconds)
            going.send(number)
        status, errors = going.end()
        going.nothing_left()
    assert status in DECLARED[number] or was_python_s_own(status, errors, tmp_path), (moments, errors)
    if status > 1:
        assert "error" not in errors, (moments, errors)


@pytest.mark.parametrize("seed", trials(4, 60))
def test_killed_at_any_moment(seed: int, tmp_path: Path) -> None:
    with Marked(*OVER_NNG, cwd=tmp_path) as going:
        time.sleep(moment(random.Random(seed)))
        os.kill(going.pid, signal.SIGKILL)
        status, _ = going.end()
        going.nothing_left()
    assert status == -signal.SIGKILL


def test_interrupted_and_resumed(tmp_path: Path) -> None:
    with Marked(*OVER_NNG, cwd=tmp_path) as going:
        going.until("working")
        going.until("working")
        going.send(signal.SIGINT)
        status, errors = going.end()
        going.nothing_left()
    assert status == 130, errors
    # Where the machine is busy, a worker may seem to hold its loop.
    said = [line for line in errors.splitlines() if "has held the event loop" not in line]
    assert [line for line in said for word in ("Traceback", "warning", "error") if word in line] == []
    before = json.loads((tmp_path / "here" / "summary.json").read_text())
    assert (before["stopped_by"], before["dead_letters"]) == ("interrupt", 0)
    goal = before["env_steps"] + 50
    ended = actorq(
        "run", "--resume", "here", "--transport", "nng", *setting(f"stop.env_steps={goal}"), cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert f"counter: goes on from step {before['env_steps']}" in ended.stderr


@pytest.mark.parametrize("place", ["on_start", "run", "on_stop"])
def test_interrupted_while_a_node_hangs(place: str, tmp_path: Path) -> None:
    hangs = setting(f"actors.worker.config.hangs_in={place}")
    with Marked(*OVER_NNG, *hangs, cwd=tmp_path) as going:
        going.until("is process" if place == "on_start" else "working")
        going.send(signal.SIGINT)
        status, errors = going.end()
        going.nothing_left()
    assert status == 130, errors


def test_a_third_ctrl_c_takes_the_nodes_along(tmp_path: Path) -> None:
    with Marked(*OVER_NNG, *setting("actors.worker.config.hangs_in=on_stop"), cwd=tmp_path) as going:
        going.until("working")
        for said in ("stopping; once more", "stopping without a checkpoint"):
            going.send(signal.SIGINT)
            going.until(said)
        going.send(signal.SIGINT)
        status, errors = going.end()
        going.nothing_left()
    assert status == 130, errors


def test_a_node_that_dies_too_often_fails_the_run(tmp_path: Path) -> None:
    with Marked(*OVER_NNG, *setting("actors.worker.config.exits=true"), cwd=tmp_path) as going:
        status, errors = going.end()
        going.nothing_left()
    assert status == 1
    assert errors.splitlines()[-1].startswith("actorq: the run failed: node 'workers.")
    assert "exited with status 7; restarted 3 times within 60 s already" in errors
    assert "Traceback" not in errors


def test_a_node_that_is_killed_comes_back(tmp_path: Path) -> None:
    with Marked(*OVER_NNG, cwd=tmp_path) as going:
        pid = int(going.until("worker.0@workers.0: working in process").split()[-1])
        os.kill(pid, signal.SIGKILL)
        going.until("node workers.0 killed by SIGKILL")
        going.until("node workers.0 is back, as process")
        going.until("worker.0@workers.0: working in process")
        going.send(signal.SIGINT)
        status, errors = going.end()
        going.nothing_left()
    assert status == 130, errors
    assert "Traceback" not in errors
    summary = json.loads((tmp_path / "here" / "summary.json").read_text())
    assert summary["actors"]["worker.0"]["restarts"] == 1


def test_stopped_from_the_terminal_and_gone_on(tmp_path: Path) -> None:
    """Ctrl-Z stops the command but not its nodes, which are not of its group."""
    with Marked(*OVER_NNG, cwd=tmp_path) as going:
        going.until("working")
        going.send(signal.SIGSTOP)
        time.sleep(3)  # longer than anybody waits for an answer
        going.send(signal.SIGCONT)
        going.until("env steps")
        going.send(signal.SIGINT)
        status, errors = going.end()
        going.nothing_left()
    assert status == 130, errors
    assert "dead letter" not in errors
    summary = json.loads((tmp_path / "here" / "summary.json").read_text())
    assert (summary["restarts"], summary["dead_letters"]) == (0, 0)


def test_log_lines_name_their_actor(tmp_path: Path) -> None:
    ended = actorq(*OVER_NNG, *setting("stop.env_steps=20"), "--json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    log = (tmp_path / "here" / "run.log").read_text()
    for told in (ended.stderr, log):
        assert "worker.0@workers.0: starting\n" in told
        assert "worker.1@workers.1: starting\n" in told
        assert "workers.0: a worker prints\n" in told
    assert json.loads(ended.stdout)["actors"].keys() == {"counter", "worker.0", "worker.1"}


def test_a_long_name_of_the_folder_for_temporary_files(tmp_path: Path, monkeypatch: Any) -> None:
    """Sockets in the file system have names of 107 characters at most."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    ended = actorq(*OVER_NNG, *setting("stop.env_steps=20"), cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_deterministic_runs_have_one_process(tmp_path: Path) -> None:
    ended = actorq(*OVER_NNG, *setting("deterministic=true"), cwd=tmp_path)
    assert ended.returncode == 2
    assert "deterministic: true, but the nodes take 3 processes; a deterministic run has one" in ended.stderr
    assert not (tmp_path / "here").exists()


@many
@pytest.mark.timeout(300)
def test_fifty_commands_in_a_row(tmp_path: Path) -> None:
    for turn in range(50):
        arguments = ("run", TEAM, "--transport", "nng", "--out", f"run-{turn}")
        with Marked(*arguments, *setting("stop.env_steps=20"), cwd=tmp_path) as going:
            status, errors = going.end()
            going.nothing_left()
        assert status == 0, errors
        assert "dead letter" not in errors


@pytest.mark.anyio
@pytest.mark.parametrize("times", [3, pytest.param(50, marks=[many, pytest.mark.timeout(300)])])
async def test_runs_in_a_row_in_one_process(times: int, tmp_path: Path, anyio_backend: Any) -> None:
    """The second and later ones leave as many files, threads and children as there were after the first."""
    seen = []
    for turn in range(times):
        async with open_run(
            TEAM,
            transport="nng",
            backend=anyio_backend,
            out=tmp_path / f"run-{turn}",
            overrides=["stop.env_steps=20"],
        ) as run:
            summary = await run.wait()
        assert (summary.stopped_by, summary.restarts, summary.dead_letters) == ("env_steps", 0, 0)
        seen.append((open_files(), children()))
    assert all(after == before for before, after in pairwise(seen[1:])), seen
    assert seen[-1][1] == []


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> list[str]:
    """Zombies too."""
    found = [task.read_text().split() for task in Path("/proc/self/task").glob("*/children")]
    return [pid for pids in found for pid in pids]
