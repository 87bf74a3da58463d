"""All kinds of parallelism in one topology: all take part, and both tasks are solved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actorq.run.open_run import run

SEEDS = range(3)
BACKENDS: list[Any] = ["asyncio", "trio"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", BACKENDS)
def test_everybody_takes_part(backend: Any, tmp_path: Path) -> None:
    summary = run(
        "combined",
        transport="inproc",
        overrides=["stop.updates=100", "stop.solved={return={cartpole=501.0, gridworld=1.0}, episodes=1}"],
        backend=backend,
        out=tmp_path / "run",
    )
    assert summary.stopped_by == "updates"
    assert (summary.restarts, summary.dead_letters) == (0, 0)
    for edge in range(2):
        names = ["stage.0", "stage.1", "replay.0", "replay.1", "inference", "explorer.0", "explorer.1"]
        assert all(
            summary.actors[f"edge.{edge}.{name}"].messages_in for name in names if "explorer" not in name
        )
        assert all(summary.actors[f"edge.{edge}.{name}"].messages_out for name in names[-2:])
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["meetings"] >= 2
    assert rows[-1]["inferences"] > 0
    assert {"episode_return/cartpole", "episode_return/gridworld"} <= {name for row in rows for name in row}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_both_tasks_are_solved(seed: int, backend: Any, tmp_path: Path) -> None:
    summary = run("combined", overrides=[f"seed={seed}"], backend=backend, out=tmp_path / "run")
    print(f"seed {seed}: {summary.wall_seconds:.1f} s, {summary.updates} updates")
    assert (summary.stopped_by, summary.solved) == ("solved", True)
    assert summary.tasks["cartpole"].return_mean >= 475.0
    assert summary.tasks["gridworld"].return_mean == 0.5
    assert (summary.restarts, summary.dead_letters) == (0, 0)
