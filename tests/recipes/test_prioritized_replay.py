"""The recipes of distributed prioritized replay: CartPole over nng, and MinAtar's Breakout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actorq.run.open_run import run
from actorq.run.records.folder import RunFolder

SEEDS = range(3)
BACKENDS: list[Any] = ["asyncio", "trio"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_explorers_shards_and_learner_work_together(backend: Any, tmp_path: Path) -> None:
    """Over nng, with draws from both shards; and the report shows what is replayed."""
    summary = run(
        "prioritized_replay",
        overrides=["stop.updates=60", "stop.solved={return=501.0, episodes=1}"],
        backend=backend,
        out=tmp_path / "run",
    )
    assert summary.stopped_by == "updates"
    assert (summary.restarts, summary.dead_letters) == (0, 0)
    assert all(summary.actors[f"explorer.{index}"].messages_out for index in range(8))
    assert summary.staleness is not None
    rows = RunFolder(tmp_path / "run").metrics.read_text().splitlines()
    last = json.loads(rows[-1])
    for name in ("priority", "age"):
        assert {f"{name}/replay.0", f"{name}/replay.1"} <= {*last}
    assert last["replay_ratio"] > 0.0
    page = RunFolder(tmp_path / "run").report.read_text()
    for title in (
        "Priorities: distribution",
        "Age of sampled transitions: distribution",
        "Replay ratio",
        "Rate limiter&#x27;s error",
        "Staleness of explorers&#x27; weights: distribution",
    ):
        assert f"<h3>{title}</h3>" in page


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("recipe", ["prioritized_replay", "prioritized_replay_redis"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_cartpole_is_solved_from_two_shards(recipe: str, seed: int, backend: Any, tmp_path: Path) -> None:
    summary = run(recipe, overrides=[f"seed={seed}"], backend=backend, out=tmp_path / "run")
    steps, seconds = f"{summary.env_steps} env steps, {summary.updates} updates", summary.wall_seconds
    print(f"{recipe}, seed {seed}: {seconds:.1f} s, {steps}")
    assert (summary.stopped_by, summary.solved) == ("solved", True)
    assert summary.evaluation_return_mean is not None
    assert summary.evaluation_return_mean >= 475.0
    assert (summary.restarts, summary.dead_letters) == (0, 0)


def test_breakout_is_explored_and_learned_from(tmp_path: Path) -> None:
    summary = run(
        "minatar_breakout",
        transport="inproc",
        overrides=["stop.updates=8", "actors.limiter.config.min_size=600"],
        out=tmp_path / "run",
    )
    assert (summary.stopped_by, summary.restarts, summary.dead_letters) == ("updates", 0, 0)
    assert summary.episodes > 0
