"""Two learners before one replay in two shards, over nng: they solve CartPole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actorq.run.open_run import run

SEEDS = range(3)
BACKENDS: list[Any] = ["asyncio", "trio"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", BACKENDS)
def test_both_learners_take_part(backend: Any, tmp_path: Path) -> None:
    summary = run(
        "prioritized_replay_learners",
        overrides=["stop.updates=40", "stop.solved={return=501.0, episodes=1}"],
        backend=backend,
        out=tmp_path / "run",
    )
    assert summary.stopped_by == "updates"
    assert (summary.restarts, summary.dead_letters) == (0, 0)
    assert summary.staleness is not None
    # A gradient, its ticket and its priorities for each update, and what they are drawn and read with.
    assert all(summary.actors[f"learner.{index}"].messages_out > 3 * 40 for index in range(2))
    assert all(summary.actors[f"explorer.{index}"].messages_out for index in range(8))


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_cartpole_is_solved_by_two_learners(seed: int, backend: Any, tmp_path: Path) -> None:
    summary = run(
        "prioritized_replay_learners", overrides=[f"seed={seed}"], backend=backend, out=tmp_path / "run"
    )
    steps, seconds = f"{summary.env_steps} env steps, {summary.updates} updates", summary.wall_seconds
    print(f"seed {seed}: {seconds:.1f} s, {steps}")
    assert (summary.stopped_by, summary.solved) == ("solved", True)
    assert summary.evaluation_return_mean is not None
    assert summary.evaluation_return_mean >= 475.0
    assert (summary.restarts, summary.dead_letters) == (0, 0)
