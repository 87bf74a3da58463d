"""A network in two stages, each a process of its own: it solves CartPole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actorq.run.open_run import run

SEEDS = range(3)
BACKENDS: list[Any] = ["asyncio", "trio"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_explorers_act_through_the_stages(backend: Any, tmp_path: Path) -> None:
    overrides = ["stop.updates=40", "stop.solved={return=501.0, episodes=1}"]
    summary = run(
        "model_parallel", transport="inproc", overrides=overrides, backend=backend, out=tmp_path / "run"
    )
    assert summary.stopped_by == "updates"
    assert (summary.restarts, summary.dead_letters) == (0, 0)
    assert all(summary.actors[f"explorer.{index}"].messages_out for index in range(4))
    assert all(summary.actors[f"stage.{index}"].messages_in > 40 for index in range(2))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_cartpole_is_solved(seed: int, backend: Any, tmp_path: Path) -> None:
    summary = run("model_parallel", overrides=[f"seed={seed}"], backend=backend, out=tmp_path / "run")
    print(f"seed {seed}: {summary.wall_seconds:.1f} s, {summary.updates} updates")
    assert (summary.stopped_by, summary.solved) == ("solved", True)
    assert (summary.restarts, summary.dead_letters) == (0, 0)
