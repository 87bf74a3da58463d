"""User errors: exit status 2, a sentence for every problem, and never a traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from actorq.cli import main

from .command import SECONDS, TOY, actorq, command, setting

FILES = {
    "latin1.toml": b"name = '\xff'",
    "syntax.toml": b"name = \n",
    "empty.toml": b"",
    "three.toml": b"sed = 1\n[actors.a]\nrole = 'nobody'\ncount = 0\n",
    "raises.toml": b"[actors.a]\nrole = 'raises_when_imported:Actor'\n",
    "raises_when_imported.py": b"1 / 0\n",
    "file": b"",
    "full/something": b"",
    "no_checkpoint/topology.toml": Path(TOY).read_bytes(),
    "damaged/topology.toml": Path(TOY).read_bytes(),
    "damaged/checkpoints/checkpoint-000001/state.json": b"{}",
}

WRONG = [  # arguments; what must be said
    ([], "Usage: actorq"),
    (["train"], "No such command 'train'"),
    (["--speed"], "No such option"),
    (["run"], "give a topology file or a recipe's name, or else --resume RUN"),
    (["run", "toy", "more"], "unexpected extra argument"),
    (["run", "--fast"], "No such option"),
    (["run", "hierarchcal"], 'did you mean "hierarchical"?'),
    (["run", "missing.toml"], "no such file"),
    (["run", "no/such/folder.toml"], "no such file"),
    (["run", "full.toml/"], "no such file"),
    (["run", "./full"], "is a folder"),
    (["run", "latin1.toml"], "is not UTF-8 text"),
    (["run", "syntax.toml"], "syntax.toml, line 1"),
    (["run", "empty.toml"], "actors: missing"),
    (["run", "raises.toml"], "ZeroDivisionError"),
    (["run", TOY, "--set"], "requires an argument"),
    (["run", TOY, "--set", "seed"], "--set seed: not of the form table.key=value"),
    (["run", TOY, "--set", "seed="], 'no value after "="'),
    (["run", TOY, "--set", "actors.steper.count=2"], 'did you mean "stepper"?'),
    (["run", TOY, "--set", "stop.env_steps=0"], "stop.env_steps"),
    (["run", TOY, "--backend", "gevent"], "'gevent' is not one of"),
    (["run", "hierarchical", "--transport", "pigeon"], 'transport "pigeon" is not installed'),
    (["run", "hierarchical", *setting('actors.learner.config.device="cuda:99"')], "device 'cuda:99'"),
    (["run", TOY, "--out", "file"], "file: is a file; a run needs a folder"),
    (["run", TOY, "--out", "file/below"], "no run folder can be made here"),
    (["run", TOY, "--out", "full"], "full: is not empty (it holds something)"),
    (["run", TOY, "--out", "no_checkpoint"], "to continue the run in it: --resume no_checkpoint"),
    (["run", TOY, "--out", "/proc/run"], "no run folder can be made here"),
    (["run", TOY, "--out", ""], "'--out': the name is empty"),
    (["run", "--resume", ""], "'--resume': the name is empty"),
    (["run", TOY, "--resume", "no_checkpoint"], "there is no complete checkpoint"),
    (["run", "--resume", "missing"], "missing: no such folder"),
    (["run", "--resume", "full"], "holds no topology.toml: not a run's folder"),
    (["run", "--resume", "file"], "file: no such folder"),
    (["run", "--resume", "no_checkpoint"], "there is no complete checkpoint to resume from"),
    (["run", "--resume", "damaged"], "there is no complete checkpoint to resume from"),
    (["run", "--resume", "no_checkpoint", "--out", "new"], "--out: a run that is resumed stays in its own"),
    (["check"], "Missing argument 'FILE'"),
    (["check", "syntax.toml"], "not TOML"),
    (["graph"], "Missing argument 'FILE'"),
    (["graph", "missing.toml"], "no such file"),
    (["graph", TOY, "--dot"], "No such option"),
    (["schema", "more"], "unexpected extra argument"),
    (["roles", "more"], "unexpected extra argument"),
    (["eval"], "Missing argument 'RUN'"),
    (["eval", ""], "'RUN': the name is empty"),
    (["eval", "no_checkpoint", "--gif", ""], "'--gif': the name is empty"),
    (["eval", "missing"], "missing: no such folder"),
    (["eval", "full"], "not a run's folder"),
    (["eval", "no_checkpoint"], "there is no complete checkpoint to evaluate"),
    (["eval", "no_checkpoint", "--episodes", "0"], "--episodes"),
    (["eval", "no_checkpoint", "--episodes", "1000000000"], "--episodes"),
    (["eval", "no_checkpoint", "--episodes", "many"], "--episodes"),
    (["eval", "no_checkpoint", "--seed", "-1"], "--seed"),
    (["eval", "no_checkpoint", "--video", "film.avi"], "the file's name must end in .mp4"),
    (["eval", "no_checkpoint", "--gif", "film.mp4"], "the file's name must end in .gif"),
    (["eval", "no_checkpoint", "--gif", "missing/film.gif"], "there is no folder missing"),
]


def _name(value: object) -> str:
    words = " ".join(value) if isinstance(value, list) else str(value)
    return words.replace(TOY, "toy")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=_name)
def test_a_mistake_is_reported_in_a_sentence(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert words in told.err.replace("\n", " ") or (not arguments and words in told.out)
    assert "Traceback" not in told.err
    assert arguments == [] or told.out == ""
    assert not (folder / "runs").exists(), "nothing may have started"


def test_all_problems_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "three.toml", "--set", "backend=gevent"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "actorq: three.toml has 4 problems:"
    wheres = {line.split(":")[0].strip() for line in lines[1:]}
    assert wheres == {"backend", "actors.a.count", "sed", "actors.a.role"}


def test_the_process_ends_with_the_status(folder: Path) -> None:
    ended = actorq("run", "three.toml", "--json", cwd=folder)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "3 problems" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("not the user's doing")

    monkeypatch.setattr("actorq.topology.list_roles", broken)
    with pytest.raises(ValueError, match="not the user's doing"):
        main(["roles"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", TOY],
        ["schema"],
        ["--version"],
        ["run", TOY, *setting("stop.env_steps=20"), "--out", "run", "--json"],
    ],
    ids=_name,
)
def test_standard_output_that_cannot_be_written(
    arguments: list[str], unbuffered: str, tmp_path: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    assert ended.returncode == 1
    assert ended.stderr.endswith("actorq: standard output can't be written: No space left on device\n")
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_no_standard_output_at_all(tmp_path: Path) -> None:
    line = shlex.join(command("check", TOY)) + " >&-"
    ended = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
