"""`actorq eval`: evaluation, output and films of a run's learned policy."""

from __future__ import annotations

import json
import math
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import imageio.v3
import numpy as np
import pytest

from actorq.cli import main
from actorq.envs.make import describe
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.learning.networks.numpy_acting import make_policy
from actorq.learning.networks.task_layout import TaskLayout
from actorq.run.open_run import run as train
from actorq.run.playback import LearnedPolicy, value_map
from actorq.run.records import checkpoint

from .command import HERE, LEARNING, actorq

CART = Task(env="CartPole-v1")
GRID = Task(env="actorq/GridWorld-v0", options={"map": "S.G"})
SEVERAL = """
tasks = [
    { name = "cart", env = "CartPole-v1" },
    { name = "grid", env = "actorq/GridWorld-v0", options = { map = "S.G" } },
]
agent = { hidden = [2, 2] }
[actors]
limiter = { role = "rate_limiter" }
replay = { role = "replay", count = 2, ports = { limiter = "limiter" } }
learner = { role = "learner", ports = { replay = "replay" } }
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned CartPole for a moment."""
    folder = tmp_path_factory.mktemp("trained")
    ended = actorq("run", LEARNING, "--backend", "trio", "--json", "--out", "run", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["updates"] >= 60
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be changed."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained, tmp_path / "run"))


def found(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["eval", *map(str, arguments), "--json"]) == 0
    evaluation: dict[str, Any] = json.loads(capsys.readouterr().out)
    return evaluation


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["eval", *map(str, arguments)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    return told.err


def change(run: Path, old: str, new: str) -> None:
    """Change the run's topology afterwards."""
    text = (run / "topology.toml").read_text()
    assert old in text
    (run / "topology.toml").write_text(text.replace(old, new))


def test_returns_are_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--episodes", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"CartPole-v1, greedily, after \d+ updates \(evaluator\)", lines[0])
    returns = [float(line.split()[-1]) for line in lines[1:4]]
    assert all(8 <= value <= 500 for value in returns)
    assert lines[4].startswith(f"mean return {sum(returns) / 3:.2f} ±")


def test_a_seed_plays_the_same_episodes_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = found(capsys, run, "--episodes", 8, "--seed", 5)
    assert first.keys() == {
        *("run", "updates", "seed", "episodes", "returns", "return_mean", "return_std")
    }  # fmt: skip
    assert first == found(capsys, run, "--episodes", 8, "--seed", 5)
    assert first["returns"] != found(capsys, run, "--episodes", 8, "--seed", 6)["returns"]
    assert first["return_mean"] == pytest.approx(sum(first["returns"]) / 8)


def test_several_tasks(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is played with its part of the network: here with one that always does what its head prefers."""
    (run / "topology.toml").write_text(SEVERAL)
    layout = TaskLayout(Agent(hidden=(2, 2)), [describe(task) for task in (CART, GRID)])
    parameters = np.zeros(layout.size, np.float32)
    parameters[layout.heads[1]][-4:] = [0, 1, 0, 0]  # the bias: to the right
    checkpoint.save(run / "checkpoints", {"learner": {"parameters": parameters, "updates": 7}}, {})
    both = found(capsys, run, "--episodes", 2)
    assert both["grid"]["returns"] == [1.0, 1.0]
    assert both["cart"]["updates"] == 7
    assert found(capsys, run, "--episodes", 2, "--task", "cart") == both["cart"]
    assert main(["eval", str(run), "--episodes", "1"]) == 0
    assert capsys.readouterr().out.count("greedily") == 2
    assert "the run has learned cart, grid" in refused(capsys, run, "--task", "pong")
    assert "a film is of one task" in refused(capsys, run, "--gif", "play.gif")


def test_the_evaluator_s_parameters_come_first(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states, _ = checkpoint.load(next((run / "checkpoints").iterdir()))
    assert found(capsys, run)["updates"] == states["evaluator"]["updates"]
    del states["evaluator"]
    checkpoint.save(run / "checkpoints", states, {})
    assert found(capsys, run)["updates"] == states["learner"]["updates"]
    del states["learner"]
    checkpoint.save(run / "checkpoints", states, {})
    assert "no actor in it keeps the parameters of a Q-network" in refused(capsys, run)


@pytest.mark.skipif(find_spec("pygame") is None, reason="CartPole is drawn with pygame")
def test_of_a_tree_the_centre_is_played(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tree"
    file = tmp_path / "tree.toml"
    file.write_text(
        'task = { env = "CartPole-v1" }\nagent = { hidden = [8], batch_size = 8, n_step = 1 }\n'
        "stop = { updates = 40 }\n"
        '[groups.edge]\ncount = 2\nactors = ["replay", "learner", "explorer"]\n'
        '[actors.root]\nrole = "averaging_server"\n'
        '[actors.replay]\nrole = "replay"\nconfig = { capacity = 1000, min_size = 64 }\n'
        '[actors.learner]\nrole = "learner"\nports = { replay = "replay", root = "root" }\n'
        "config = { synchronize_every_updates = 10 }\n"
        '[actors.explorer]\nrole = "environment"\n'
        'ports = { replay = "replay", weights = "learner" }\nconfig = { envs = 4, chunk_steps = 8 }\n'
    )
    assert main(["run", str(file), "--out", str(folder)]) == 0
    said = capsys.readouterr()
    assert "evaluate: " not in said.err + said.out, "nobody has evaluated"
    assert main(["eval", str(folder), "--episodes", "1"]) == 0
    assert "(root)" in capsys.readouterr().out


def test_it_is_filmed(run: Path) -> None:
    films = ["--gif", "play.gif", "--video", "play.mp4"]
    ended = actorq("eval", run, "--episodes", "2", *films, cwd=run.parent)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    counted = re.findall(r"play\.(?:gif|mp4): (\d) episodes?, return", ended.stdout)
    assert len(counted) == 2
    pictures = imageio.v3.imread("play.gif")
    assert pictures.shape[1:] == (400, 600, 3)
    assert (pictures[0] != pictures[-1]).any()
    assert Path("play.mp4").read_bytes()[4:8] == b"ftyp"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its plotting libraries'
@pytest.mark.parametrize(
    ("env", "package", "side"), [("ALE/Pong-v5", "ale_py", 168), ("MinAtar/Breakout-v1", "minatar", 160)]
)
def test_small_pictures_are_enlarged(env: str, package: str, side: int, run: Path) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    change(run, 'env = "CartPole-v1"', f'env = "{env}"\nmax_episode_steps = 9')
    change(run, "hidden = [\n    16,\n]", "hidden = []")
    task = Task(env=env, max_episode_steps=9)
    spaces = describe(task)
    size = (math.prod(spaces.observation_shape) + 1) * spaces.actions
    learned = {"parameters": np.zeros(size, np.float32), "updates": 0}
    checkpoint.save(run / "checkpoints", {"learner": learned}, {})
    assert main(["eval", str(run), "--episodes", "1", "--gif", "play.gif"]) == 0
    pictures = imageio.v3.imread("play.gif")
    assert pictures.shape[1:] == (side, side, 3)
    assert len(np.unique(pictures)) > 2


def test_without_imageio_the_extra_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("actorq.cli.commands.eval.find_spec", lambda name: None)
    assert "--gif needs imageio: pip install 'actorq[video]'" in refused(capsys, run, "--gif", "play.gif")


def test_what_cannot_be_drawn_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(HERE / "unseen.py", run / "drawn.py")
    change(run, '"CartPole-v1"', '"drawn:Unseen"')
    assert found(capsys, run, "--episodes", 2)["returns"] == [1.0, 1.0]
    assert "can't be rendered" in refused(capsys, run, "--gif", "play.gif")
    assert not Path("play.gif").exists()


def test_a_film_that_cannot_be_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder.gif").mkdir()
    assert "folder.gif: can't be written: Is a directory" in refused(capsys, run, "--gif", "folder.gif")


def test_parameters_of_another_network(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run, "hidden = [\n    16,\n]", "hidden = [17]")
    assert "what evaluator has learned can't be played: the network has" in refused(capsys, run)


def test_a_damaged_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (run / "checkpoints").iterdir():
        with (path / "arrays.safetensors").open("r+b") as file:
            file.truncate(100)
    assert "there is no complete checkpoint to evaluate" in refused(capsys, run)


def test_a_grid_world_shows_its_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ['task.env="actorq/GridWorld-v0"', "agent.gamma=0.9", "stop.updates=60"]
    train(LEARNING, overrides=small, out=tmp_path / "grid")
    assert main(["eval", str(tmp_path / "grid"), "--episodes", "2"]) == 0
    output = capsys.readouterr().out
    assert "goal" in output
    assert set(output) & set("↑→↓←")


@pytest.mark.parametrize(("reward_scale", "learned"), [(1.0, 0.5), (10.0, 5.0), ("adaptive", 0.5)])
def test_the_map_is_in_units_of_reward(reward_scale: float | Literal["adaptive"], learned: float) -> None:
    """What is scaled for learning isn't for showing; PopArt's learner gives true Q-values away."""
    task = Task(env="actorq/GridWorld-v0", options={"map": "S.G"}, reward_scale=reward_scale)
    agent = Agent(hidden=(2,))
    parameters = np.zeros(make_policy(agent, (3,), np.float32, 4).size, np.float32)
    parameters[-4:] = learned  # the bias of the Q-values
    drawn = value_map(LearnedPolicy("learner", task, agent, parameters, updates=7))
    assert drawn is not None
    assert "|↑→↓← 0.50|↑→↓← 0.50|   goal  |" in drawn


def test_stacked_cells_have_no_map() -> None:
    task = Task(env="actorq/GridWorld-v0", options={"map": "S.G"}, frame_stack=2)
    agent = Agent(hidden=(2,))
    parameters = np.zeros(make_policy(agent, (2, 3), np.float32, 4).size, np.float32)
    assert value_map(LearnedPolicy("learner", task, agent, parameters, updates=7)) is None
