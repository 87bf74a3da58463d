"""Commands that start nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actorq import __version__
from actorq.cli import main
from actorq.cli.app import app

from .command import TOY


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--version"], [f"actorq {__version__}"]),
        (["--help"], ["run", "check", "graph", "schema", "roles", "eval", "actorq run hierarchical"]),
        (["run", "-h"], ["--set", "--transport", "--backend", "--resume", "--json", "Exit status: 0"]),
        (["check", TOY], ["toy.toml is right: 1 actor on 1 node"]),
        (["check", "hierarchical"], ["14 actors on 4 nodes"]),
        (["check", TOY, "--set", "actors.stepper.count=3"], ["3 actors on 1 node"]),
        (["check", "hierarchical"], ["replay × 3  100,000 transitions of 44 bytes: 4.4 MB each"]),
        (["check", "parameter_server"], ["worker × 4  25,000", "of 44 bytes: 1.1 MB each", "4.4 MB in all"]),
        (["graph", "hierarchical"], ["explorer × 2", "edge × 3", "──▶", "seed 0"]),
        (["graph", "hierarchical", "--set", "seed=7"], ["seed 7"]),
        (["graph", "hierarchical", "--mermaid"], ["flowchart LR", "actor_learner"]),
        (["roles"], ["learner  (actorq.roles.learner.learner:Learner)", "ports:", "handles:", "tables:"]),
    ],
)  # fmt: skip
def test_what_is_printed(arguments: list[str], words: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for word in words:
        assert word in result.stdout
    assert result.stderr == ""


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert "actors" in json.loads(capsys.readouterr().out)["properties"]


def test_the_package_can_be_run_as_the_command(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "actorq", "run", "-h"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Usage: actorq run " in ended.stdout


def test_help_loads_nothing_that_it_does_not_need() -> None:
    code = "import sys; from actorq.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "gymnasium", "numba", "anyio", "rich", "structlog", "msgspec"}
    assert not heavy & set(ended.stderr.split())


def test_check_and_graph_load_no_torch() -> None:
    code = (
        "import sys; from actorq.cli import main;"
        "main(['check', 'hierarchical', '--set', 'actors.learner.config.device=\"cuda:0\"']);"
        " main(['graph', 'gridworld']); print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numba", "rich", "structlog"} & set(ended.stderr.split())
