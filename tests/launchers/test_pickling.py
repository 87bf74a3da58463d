"""A user's own classes arrive in a fresh interpreter, and nothing else in the code base unpickles."""

from __future__ import annotations

import ast
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actorq.actors import ActorSpec
from actorq.launchers.pickling import PicklingError, pickle_value, unpickle

from .small_actors import Quiet

ROOT = Path(__file__).parent.parent.parent
PICKLING = ROOT / "actorq/launchers/pickling.py"
CHILD = ROOT / "actorq/launchers/process/child.py"
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}


def test_a_scripts_own_classes_arrive_whole() -> None:
    """Structs, Configs, actors, enums, dataclasses and closures of pickling_script.py, which checks them."""
    script = Path(__file__).with_name("pickling_script.py")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_what_can_be_imported_is_named() -> None:
    """So a node whose actors are in modules loads no cloudpickle."""
    spec = ActorSpec(name="quiet", cls=Quiet, config=Quiet.Config(level=3))
    taken = unpickle(pickle_value(spec))
    assert taken == spec
    assert taken.cls is Quiet
    assert b"cloudpickle" not in pickle_value(spec)


def test_a_value_that_cant_be_pickled_is_reported() -> None:
    lock = threading.Lock()
    with pytest.raises(PicklingError, match=r"a function can't be pickled: cannot pickle '_thread.lock'"):
        pickle_value(lambda: lock)


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


def problems(tree: ast.Module, file: Path) -> Iterator[str]:
    """What would make code of bytes: modules that unpickle, loaders that may, and `unpickle`."""
    for name in imports(tree):
        if name.partition(".")[0] in UNPICKLERS and file != PICKLING:
            yield f"imports {name}"
    for node in ast.walk(tree):
        name = getattr(node, "id", getattr(node, "attr", getattr(node, "name", "")))
        if name == "unpickle" and file not in (PICKLING, CHILD):
            yield "uses unpickle"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if given.get("allow_pickle", "False") != "False":
                yield f"{called}(allow_pickle=…)"
            if called == "torch.load" and given.get("weights_only") != "True":
                yield "torch.load without weights_only=True"
            if called in ("__import__", "import_module", "importlib.import_module"):
                yield from (f"imports {argument}" for argument in _texts(node) if argument in UNPICKLERS)


def _texts(call: ast.Call) -> list[str]:
    return [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]


def test_only_one_module_unpickles() -> None:
    files = [*(ROOT / "actorq").rglob("*.py"), *(ROOT / "transports").rglob("*.py")]
    assert {PICKLING, CHILD} < set(files)
    found = [
        f"{file.relative_to(ROOT)} {problem}"
        for file in files
        for problem in problems(ast.parse(file.read_text()), file)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from cloudpickle import loads",
        "import shelve as s",
        "from .pickling import unpickle",
        "from . import pickling\npickling.unpickle(b'')",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "importlib.import_module('dill')",
    ],
)
def test_a_module_that_unpickles_is_found(source: str) -> None:
    assert list(problems(ast.parse(source), ROOT / "actorq/launchers/node.py"))
