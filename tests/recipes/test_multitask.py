"""One network learns CartPole, Acrobot and a grid world, and is done when it can do all three."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from actorq.run.open_run import run

SEEDS = range(3)
BACKENDS: list[Any] = ["asyncio", "trio"]
TASKS = ["cartpole", "acrobot", "gridworld"]
MARKS = {"cartpole": 475.0, "acrobot": -100.0, "gridworld": 0.5}


@pytest.mark.parametrize(("scale", "backend"), [("1.0", "asyncio"), ("adaptive", "trio")])
def test_every_task_is_explored_learned_and_reported(scale: str, backend: Any, tmp_path: Path) -> None:
    settings = ["actors.evaluator.config.every_updates=60", "stop.solved.episodes=2"]
    settings += [f"stop.solved.return.{task}=-1e9" for task in TASKS]
    settings += [f"tasks.{number}.reward_scale={scale}" for number in range(3)]
    settings += ["actors.limiter.config.min_size=600", "tasks.1.max_episode_steps=50"]
    summary = run("multitask", overrides=settings, backend=backend, out=tmp_path / "run")
    assert summary.stopped_by == "solved", "at the first evaluation"
    assert (summary.restarts, summary.dead_letters) == (0, 0)
    assert list(summary.tasks) == TASKS
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = {name for row in rows for name in row}
    assert {f"episode_return/{task}" for task in TASKS} <= told
    assert {f"evaluation_return_std/{task}" for task in TASKS} <= told
    assert ({f"target_scale/{task}" for task in TASKS} <= told) is (scale == "adaptive")
    report = (tmp_path / "run" / "report.html").read_text()
    assert all(f"Evaluation return of {task}" in report for task in TASKS)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_one_network_does_all_three(seed: int, backend: Any, tmp_path: Path) -> None:
    summary = run("multitask", overrides=[f"seed={seed}"], backend=backend, out=tmp_path / "run")
    print(f"seed {seed}: {summary.wall_seconds:.1f} s, {summary.env_steps} env steps")
    assert (summary.stopped_by, summary.solved) == ("solved", True)
    for task, mark in MARKS.items():
        assert summary.tasks[task].return_mean >= mark
    assert (summary.restarts, summary.dead_letters) == (0, 0)


def test_the_marks_are_the_recipe_s() -> None:
    recipe = Path(__file__).parent.parent.parent / "recipes" / "multitask.toml"
    assert tomllib.loads(recipe.read_text())["stop"]["solved"]["return"] == MARKS
