"""Learners dealt to by speed, explorers with weights beside explorers that ask: they solve CartPole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actorq.run.open_run import run

SEEDS = range(3)
BACKENDS: list[Any] = ["asyncio", "trio"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_everybody_takes_part(backend: Any, tmp_path: Path) -> None:
    summary = run(
        "heterogeneous",
        transport="inproc",
        overrides=["stop.updates=60", "stop.solved={return=501.0, episodes=1}"],
        backend=backend,
        out=tmp_path / "run",
    )
    assert summary.stopped_by == "updates"
    assert (summary.restarts, summary.dead_letters) == (0, 0)
    assert all(
        summary.actors[f"{kind}.{index}"].messages_out for kind in ("explorer", "asker") for index in range(4)
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["inferences"] > 0
    dealt = [row for row in rows if "rows/learner.0" in row and "rows/learner.1" in row]
    assert dealt
    assert all(row["rows"] >= 4 for row in dealt), "nobody is dealt less than a sixteenth"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_cartpole_is_solved(seed: int, backend: Any, tmp_path: Path) -> None:
    summary = run("heterogeneous", overrides=[f"seed={seed}"], backend=backend, out=tmp_path / "run")
    steps, seconds = f"{summary.env_steps} env steps, {summary.updates} updates", summary.wall_seconds
    print(f"seed {seed}: {seconds:.1f} s, {steps}")
    assert (summary.stopped_by, summary.solved) == ("solved", True)
    assert summary.evaluation_return_mean is not None
    assert summary.evaluation_return_mean >= 475.0
    assert (summary.restarts, summary.dead_letters) == (0, 0)
