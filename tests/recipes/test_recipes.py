"""The shipped recipes do what they say, on both back ends; solving them with every seed is slow."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import actorq
from actorq.envs.grid import Grid
from actorq.learning.networks.numpy_acting import make_policy
from actorq.run.open_run import open_run, run
from actorq.run.records import checkpoint
from actorq.run.refs import OutsideRef
from actorq.topology import check

RECIPES = Path(__file__).parent.parent.parent / "recipes"
SEEDS = range(5)
BACKENDS: list[Any] = ["asyncio", "trio"]


@pytest.fixture
def own_import_path() -> Iterator[None]:
    """What a recipe puts on the import path is gone afterwards."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    sys.modules.pop("custom_parts", None)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipe_checks_and_has_a_description(path: Path, own_import_path: None) -> None:
    plan = check(path)
    assert plan.topology.name == path.stem
    assert path.read_text().startswith("# ")
    assert f"actorq run recipes/{path.name}" in path.read_text()


def q_error(folder: Path) -> float:
    """How far the parameters that the evaluator kept are from Q*, at the worst reachable state and action."""
    plan = check(folder / "topology.toml")
    agent, task = plan.tables["agent"], plan.tables["task"]
    grid = Grid(**task.options)
    last = checkpoint.latest(folder / "checkpoints")
    assert last is not None
    policy = make_policy(agent, (grid.count,), np.float32, 4)
    policy.load(checkpoint.load(last)[0]["evaluator"]["parameters"])
    learned = policy.q_values(np.eye(grid.count, dtype=np.float32))
    return float(np.abs(learned - grid.value_iteration(agent.gamma))[grid.reachable].max())


def test_gridworld_is_learned_and_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "actorq.roles"):
        summary = run("gridworld", out=tmp_path / "run")
    assert summary.solved
    assert summary.dead_letters == 0
    assert q_error(tmp_path / "run") <= 0.05
    (drawn,) = [record.getMessage() for record in caplog.records if "goal" in record.getMessage()]
    lines = drawn.splitlines()[2::2]
    assert len(lines) == 5
    # The exact arrows, where the best action is better than the next one by more than the error allowed.
    grid = Grid(**check("gridworld").tables["task"].options)
    exact = grid.value_iteration(0.9)
    for row, column, q, ended in zip(grid.rows, grid.columns, exact, grid.terminal, strict=True):
        best, next_best = np.sort(q)[[-1, -2]]
        if not ended and best - next_best > 0.1:
            assert lines[row].split("|")[column + 1].strip()[0] == "↑→↓←"[q.argmax()]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_gridworld_is_learned_with_each_seed(seed: int, backend: Any, tmp_path: Path) -> None:
    summary = run("gridworld", overrides=[f"seed={seed}"], backend=backend, out=tmp_path / "run")
    assert summary.solved
    assert q_error(tmp_path / "run") <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_cartpole_is_solved_with_each_seed(seed: int, backend: Any, tmp_path: Path) -> None:
    summary = run("hierarchical", overrides=[f"seed={seed}"], backend=backend, out=tmp_path / "run")
    assert (summary.stopped_by, summary.solved) == ("solved", True)
    assert summary.evaluation_return_mean is not None
    assert summary.evaluation_return_mean >= 475.0
    assert summary.evaluation_episodes == 20
    assert summary.dead_letters == 0


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_catch_is_solved_with_each_seed(
    seed: int, backend: Any, tmp_path: Path, own_import_path: None
) -> None:
    summary = run(RECIPES / "custom.toml", overrides=[f"seed={seed}"], backend=backend, out=tmp_path / "run")
    assert (summary.stopped_by, summary.solved) == ("solved", True)


@pytest.mark.anyio
async def test_the_mirror_doubles_what_is_lived_through(tmp_path: Path, own_import_path: None) -> None:
    endless = ["stop.solved={return=2.0, episodes=1}", "stop.env_steps=1_000_000_000"]
    async with open_run(RECIPES / "custom.toml", overrides=endless, out=tmp_path / "run") as opened:
        from custom_parts import GetTally  # type: ignore[import-not-found]

        mirror = opened["mirror"]
        assert isinstance(mirror, OutsideRef)
        tally = await mirror.ask(GetTally())
        assert 0 <= tally.added <= tally.seen
        async for progress in opened.progress(every_seconds=0.1):
            if progress.counts.get("updates", 0) >= 50:
                break
        opened.stop()
        summary = await opened.wait()
    path = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert path is not None
    states = checkpoint.load(path)[0]
    assert states["mirror"]["added"] == states["mirror"]["seen"] > 0
    assert states["replay"]["gate"]["inserted"] == 2 * states["mirror"]["seen"]
    assert summary.dead_letters == 0


def test_a_mirrored_game_is_a_game(own_import_path: None) -> None:
    """Played with left and right exchanged, the mirror image of a game goes on as the mirror has it."""
    check(RECIPES / "custom.toml")
    from custom_parts import RIGHT, Catch

    generator = np.random.default_rng(0)
    for seed in range(20):
        game, image = Catch(), Catch()
        seen, _ = game.reset(seed=seed)
        image.reset(seed=seed)
        image.ball, image.paddle, image.drift = 6 - game.ball, 6 - game.paddle, -game.drift
        landed = False
        while not landed:
            action = int(generator.integers(3))
            seen, reward, landed, *_ = game.step(action)
            mirrored, mirrored_reward, *_ = image.step(RIGHT - action)
            assert (mirrored == seen[:, ::-1]).all()
            assert mirrored_reward == reward


def test_recipes_are_public() -> None:
    assert actorq.load("gridworld").name == "gridworld"
