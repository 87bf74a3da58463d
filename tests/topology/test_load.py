"""Loading: from a path, a recipe's name and overrides to a topology."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from actorq.topology import Topology, TopologyError, load, recipes
from actorq.topology.overrides import parse_value

from . import actors as example

LONER = f'[actors.loner]\nrole = "{example.role(example.Loner)}"\n'


def refusal(source: Any, overrides: list[str] | None = None) -> str:
    """The one problem, as text."""
    with pytest.raises(TopologyError) as caught:
        load(source, overrides or [])
    (problem,) = caught.value.problems
    return str(problem)


def test_a_file_names_the_run(tmp_path: Path) -> None:
    file = tmp_path / "my run (2).toml"
    file.write_text(LONER)
    assert load(file).name == "my-run--2-"
    file.write_text('name = "other"\n' + LONER)
    assert load(str(file)).name == "other"


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "hierarchical.toml").write_text(LONER)
    told = refusal(tmp_path / "hierachical.toml")
    assert "no such file" in told
    assert 'did you mean "hierarchical.toml"?' in told
    assert "no such file" in refusal(tmp_path / "nowhere" / "a.toml")
    (tmp_path / "combined.toml").write_text(LONER)
    told = refusal(tmp_path / "nope.toml")
    assert "did you mean" not in told, "an ending alike is no likeness"
    assert 'topology files beside it: "combined.toml", "hierarchical.toml"' in told
    assert "is a folder" in refusal(tmp_path)


def test_recipes_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lesson.toml").write_text(LONER)
    monkeypatch.setattr(
        import_module("actorq.topology.load"), "_RECIPE_FOLDERS", (tmp_path / "missing", tmp_path)
    )
    assert recipes() == {"lesson": tmp_path / "lesson.toml"}
    assert load("lesson").name == "lesson"
    assert 'did you mean "lesson"?' in refusal("leson")


def test_the_checkouts_recipes_are_the_shipped_ones() -> None:
    folder = Path(__file__).parents[2] / "recipes"
    assert set(recipes()) == {path.stem for path in folder.glob("*.toml")}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed = \n", 1),
        ('name = "a"\n[actors.a\nrole = 3\n', 2),
        ("seed = 1\nname = 'a'\nseed = 2\n", 3),
        ('a = "\\q"\n', 1),
    ],
)
def test_no_toml(text: str, line: int, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text)
    told = refusal(file)
    assert f"broken.toml, line {line}, column" in told
    assert "not TOML" in told


@pytest.mark.parametrize("content", [b"name = \xff", b'a = "unclosed', b"a = " + b"[" * 5000, b"\x00"])
def test_no_text(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    assert "broken.toml" in refusal(file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("5_000", 5000),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("True", "True"),
        ("CartPole-v1", "CartPole-v1"),
        ("ALE/Pong-v5", "ALE/Pong-v5"),
        ("cuda:0", "cuda:0"),
        ("my_module:Class", "my_module:Class"),
        ('"5"', "5"),
        ("'x'", "x"),
        ("[1, 2]", [1, 2]),
        ("{ a = 1 }", {"a": 1}),
        ("2024-01-01", "2024-01-01"),
        ("1\nb = 2", "1\nb = 2"),
        ("a = b", "a = b"),
    ],
)
def test_values_of_overrides(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert (parsed, type(parsed)) == (value, type(value))


def test_overrides_change_any_key() -> None:
    topology = load(
        example.hierarchy(),
        [
            "seed=3",
            "agent.n_step = 5",
            "agent.n_step=6",
            "task.env=Other-v1",
            "actors.explorer.count=2",
            "actors.explorer.config.envs=4",
            "nodes.main.count=1",
            "stop.wall_seconds=9.5",
            "run.metrics_every_seconds=5",
            "actors.explorer.ports.weights=[\"learner\"]",
            f"actors.more={{ role = \"{example.role(example.Loner)}\" }}",
        ],
    )  # fmt: skip
    assert (topology.seed, topology.tables["agent"]["n_step"]) == (3, 6)
    assert topology.tables["task"] == {"env": "Other-v1"}
    assert (topology.actors["explorer"].count, topology.actors["explorer"].config) == (2, {"envs": 4})
    assert topology.stop.wall_seconds == 9.5
    assert topology.stop.env_steps == 200_000
    assert topology.actors["explorer"].ports["weights"] == ("learner",)
    assert list(topology.actors)[-1] == "more"


@pytest.mark.parametrize(
    ("override", "where", "words"),
    [
        ("seed", "--set seed", "table.key=value"),
        ("=5", "--set =5", "table.key=value"),
        ("agent..n_step=5", "--set agent..n_step=5", "table.key=value"),
        ("agent.n_step=", "--set agent.n_step=", "no value"),
        ("agent.hidden=[1,", "--set agent.hidden=[1,", "not a TOML value"),
        ('task.env="x', '--set task.env="x', "not a TOML value"),
        ("seed.x=5", "--set seed.x=5", "seed is a single value"),
        ("agent.n_step.x=5", "--set agent.n_step.x=5", "agent.n_step is a single value"),
        ("actors.explorers.count=2", "--set actors.explorers.count=2", 'did you mean "explorer"?'),
        ("nodes.explorer.count=2", "--set nodes.explorer.count=2", 'did you mean "explorers"?'),
        ("groups.cores.strategy=x", "--set groups.cores.strategy=x", 'did you mean "core"?'),
        ("agent.n_steps=5", "agent.n_steps", 'did you mean "n_step"?'),
        ("agent.n_step=five", "agent.n_step", 'found "five"'),
        ("agnet.n_step=5", "agnet", 'did you mean "agent"?'),
        ("seed=1.0", "seed", "an integer"),
    ],
)
def test_wrong_overrides(override: str, where: str, words: str) -> None:
    told = refusal(example.hierarchy(), [override])
    assert told.startswith(where + ": ")
    assert words in told


def test_all_wrong_overrides_are_reported_at_once() -> None:
    with pytest.raises(TopologyError) as caught:
        load(example.hierarchy(), ["seed", "agent.n_step=4", "name.x=1"])
    assert [problem.where for problem in caught.value.problems] == ["--set seed", "--set name.x=1"]


OWN_ACTOR = """
from actorq.actors.actor import Actor
class Mine(Actor):
    "Mine."
"""


def beside(folder: Path, module: str, source: str, role: str | None = None) -> Path:
    """A topology file with a module of that source beside it."""
    (folder / f"{module}.py").write_text(source)
    file = folder / "own.toml"
    file.write_text(f'[actors.own]\nrole = "{role or f"{module}:Mine"}"\n')
    return file


@pytest.mark.usefixtures("fresh_imports")
def test_a_module_beside_the_file(tmp_path: Path) -> None:
    topology = load(beside(tmp_path, "topology_own_a", OWN_ACTOR))
    assert topology.python_path == (str(tmp_path),)
    assert load(topology) == topology


@pytest.mark.usefixtures("fresh_imports")
def test_a_module_in_a_folder_of_the_python_path(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    file = beside(tmp_path / "lib", "topology_own_b", OWN_ACTOR).rename(tmp_path / "own.toml")
    file.write_text('python_path = ["lib"]\n' + file.read_text())
    assert load(file).python_path == (str(tmp_path), str(tmp_path / "lib"))


@pytest.mark.usefixtures("fresh_imports")
@pytest.mark.parametrize(
    ("source", "role", "words"),
    [
        ("class Mine(:\n", None, ("line 1", "SyntaxError", "own_x.py")),
        ("\n\n1 / 0\n", None, ("line 3", "ZeroDivisionError: division by zero", "own_x.py")),
        ("import no_such_thing\n", None, ("line 1", "No module named 'no_such_thing'")),
        ("raise SystemExit(3)\n", None, ("line 1", "SystemExit")),
        (OWN_ACTOR, "own_x:Mien", ('has no "Mien"', 'did you mean "Mine"?')),
        (OWN_ACTOR, "own_y:Mine", ("no module own_y", 'did you mean "own_x"?')),
        (OWN_ACTOR, "own_x.inner:Mine", ("own_x.inner",)),
        (OWN_ACTOR, "own_x:Actor.problems", ("not a subclass",)),
        (
            OWN_ACTOR + "    async def f(self, a, b): ...\n    f.__actorq_handles__ = 1\n",
            None,
            ("own_x.py, line 3", "DefinitionError", "takes self and one message"),
        ),
        (OWN_ACTOR + "    Config = 3\n", None, ("Mine.Config is not a subclass of actorq.Config",)),
    ],
)
def test_a_module_that_is_no_good(
    source: str, role: str | None, words: tuple[str, ...], tmp_path: Path
) -> None:
    told = refusal(beside(tmp_path, "own_x", source, role))
    assert told.startswith("actors.own.role: ")
    assert "Traceback" not in told
    assert all(word in told for word in words), told


@pytest.mark.usefixtures("fresh_imports")
def test_a_module_named_like_one_in_use(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    load(beside(first, "own_z", OWN_ACTOR))
    told = refusal(beside(second, "own_z", OWN_ACTOR))
    assert "has the name of a module in use" in told
    assert str(first) in told
    assert str(second) in told


@pytest.mark.usefixtures("fresh_imports")
def test_the_import_path_does_not_grow(tmp_path: Path) -> None:
    file = beside(tmp_path, "own_w", OWN_ACTOR)
    load(file)
    load(file)
    assert sys.path.count(str(tmp_path)) == 1


def test_the_error_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(LONER + "\n[nodes]\nmain = 3\n")
    with pytest.raises(TopologyError, match=r"wrong\.toml has 1 problem:\n  nodes\.main: found 3"):
        load(file)


def test_load_answers_a_topology() -> None:
    assert isinstance(load(example.hierarchy()), Topology)
