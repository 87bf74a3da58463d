"""`actorq run --resume` with settings that the checkpoint doesn't allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from actorq.cli import main
from actorq.run.open_run import run as train
from actorq.run.preflight import check_states
from actorq.run.records import checkpoint
from actorq.topology import check

from .command import LEARNING, setting


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned CartPole for a moment; nobody may change it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(LEARNING, out=folder)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("agent.hidden=[7]", "agent: its network is another than the checkpoint's, of 114 parameters"),
        ("agent.dueling=true", "agent: its network is another than the checkpoint's, of 114 parameters"),
        ('task.env="Acrobot-v1"', "agent: its network is another than the checkpoint's, of 114 parameters"),
        ("task.frame_stack=2", "agent: its network is another than the checkpoint's, of 114 parameters"),
        ('agent.optimizer="rmsprop"', "agent.optimizer: is rmsprop, but the run has learned with adam"),
        ('actors.replay.config.sampling="uniform"', "config.sampling: is uniform, but the saved replay is"),
        ("actors.replay.config.capacity=64", "actors.replay.config.capacity: is 64, but"),
        ("actors.replay.config.alpha=0.5", "is 0.5, but the saved priorities were made with 0.6"),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused(
    run: Path, override: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(run)
    assert main(["run", "--resume", str(run), *setting(override, "stop.updates=1000000")]) == 2
    errors = capsys.readouterr().err
    assert f"{run}/checkpoints/checkpoint-000001: the topology can't resume from it:\n" in errors
    assert errors.count(told) == 1
    assert "Traceback" not in errors
    assert content(run) == before, "nothing may have changed"


@pytest.mark.parametrize(
    "override",
    [
        "agent.learning_rate=0.5",
        "agent.batch_size=8",
        'agent.dtype="float64"',
        "actors.explorer.count=3",
        "actors.replay.config.capacity=4000",
        "actors.replay.config.samples_per_insert=2",
    ],
)
def test_other_settings_may_change(run: Path, override: str) -> None:
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    check_states(check(run / "topology.toml", [override]), checkpoint.load(path)[0], path)
