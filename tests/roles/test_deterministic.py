"""`deterministic = true`: two runs of one seed leave equal metrics and equal parameters, bit for bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actorq.run.open_run import run
from actorq.run.records import checkpoint

RECIPES = {  # name -> what keeps it short
    "hierarchical": ["stop.updates=250"],
    "gridworld": ["stop.updates=250", "actors.evaluator.config.every_updates=100"],
    "multitask": [
        "stop.updates=120",
        "stop.solved.episodes=2",
        "tasks.1.reward_scale=adaptive",
        "tasks.1.max_episode_steps=50",
        "actors.evaluator.config.every_updates=100",
        "actors.limiter.config.min_size=600",
    ],
}

LEARNERS = {"hierarchical": "edge.2.learner", "gridworld": "learner", "multitask": "learner"}


def leave(recipe: str, backend: Any, out: Path, *overrides: str) -> Path:
    """Run it deterministically; returns its folder."""
    shortened = ["deterministic=true", *RECIPES[recipe], *overrides]
    run(recipe, overrides=shortened, backend=backend, out=out)
    return out


def metrics(folder: Path) -> list[dict[str, float]]:
    """All rows but their wall-clock fields."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if not name.endswith(("wall_seconds", "_per_second"))}
        for row in rows
    ]


def states(folder: Path) -> dict[str, Any]:
    path = checkpoint.latest(folder / "checkpoints")
    assert path is not None
    return checkpoint.load(path)[0]


def assert_identical(a: Any, b: Any, where: str = "state") -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_identical(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_identical(*pair, f"{where}[{index}]")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        assert a.shape == b.shape, where
        assert a.tobytes() == b.tobytes(), where
    else:
        assert a == b, where


@pytest.fixture(scope="module", params=RECIPES)
def first(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    recipe: str = request.param
    return recipe, leave(recipe, "asyncio", tmp_path_factory.mktemp(recipe) / "first")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_runs_of_one_seed_are_identical(first: tuple[str, Path], backend: str, tmp_path: Path) -> None:
    recipe, one = first
    other = leave(recipe, backend, tmp_path / "other")
    rows = metrics(one)
    assert len(rows) > 1
    assert "loss" in rows[-1]
    assert metrics(other) == rows
    assert LEARNERS[recipe] in states(one)
    assert_identical(states(other), states(one))


def test_another_seed_is_another_run(first: tuple[str, Path], tmp_path: Path) -> None:
    recipe, one = first
    other = leave(recipe, "asyncio", tmp_path / "other", "seed=1")
    assert metrics(other) != metrics(one)
