"""Imports run downward only, torch stays inside what computes, and nothing is unpickled.

The rules are read off the syntax trees, so an import inside a function or under TYPE_CHECKING counts
like any other.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS = {  # package of actorq -> the other packages of actorq it may import
    "": {"cli"},  # __main__.py; the names in __init__.py are text
    "actors": set[str](),
    "learning": set[str](),
    "replay": set[str](),
    "envs": set[str](),
    "topology": {"actors"},
    "launchers": {"topology", "actors"},
    "roles": {"learning", "replay", "envs", "actors"},
    "run": {"launchers", "topology", "actors", "roles", "learning", "replay", "envs"},
    "cli": {"run", "launchers", "topology", "actors"},
    "testing": {"run", "launchers", "topology", "actors", "roles", "learning", "replay", "envs"},
}
TRANSPORT_MAY_IMPORT = {"actors"}
FREE_OF_LEARNING = {"actors", "topology", "launchers"}  # would serve a chat server as well
LEARNING = {"torch", "gymnasium"}
BACK_ENDS = {"asyncio", "trio"}
UNPICKLES = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle.load", "cloudpickle.loads"}
MAY_UNPICKLE = ROOT / "actorq/launchers/pickling.py"
"""From the pipe that a node inherits; tests/launchers/test_pickling.py watches who calls it."""
RUNS_TEXT = {"eval", "exec", "builtins.eval", "builtins.exec"}
LIGHT = ("actors", "topology", "launchers", "replay", "envs", "roles")  # to import; a function may want torch


def imported(tree: ast.Module, package: str) -> Iterator[tuple[str, str, int]]:
    """(bound name, dotted name it stands for, line) of each import; `package` resolves relative ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                yield alias.asname or alias.name, f"{base}.{alias.name}", node.lineno


def within(name: str, modules: set[str]) -> bool:
    """Whether a dotted name is one of `modules` or lies inside one."""
    return any(name == module or name.startswith(module + ".") for module in modules)


def import_problems(tree: ast.Module, package: str) -> Iterator[str]:
    top, _, rest = package.partition(".")
    layer = rest.partition(".")[0]  # "" in actorq/__init__.py and __main__.py
    allowed = LAYERS.get(layer, set()) | {layer} if top == "actorq" else TRANSPORT_MAY_IMPORT
    for _, name, line in imported(tree, package):
        owner, _, inner = name.partition(".")
        if owner == "actorq" and inner != "__version__" and inner.partition(".")[0] not in allowed - {""}:
            yield f"line {line}: {package} may not import {name}"
        if layer in FREE_OF_LEARNING and within(name, LEARNING):
            yield f"line {line}: {package} knows no {name}"
        if layer != "testing" and within(name, BACK_ENDS):
            yield f"line {line}: {name}: use anyio, which runs on asyncio and trio alike"
        if within(name, UNPICKLES):
            yield f"line {line}: {name}: nothing is unpickled"


def dotted(node: ast.expr, bound: dict[str, str]) -> str:
    """The dotted name an expression stands for, imports resolved; "" if it is no plain name."""
    if isinstance(node, ast.Name):
        return bound.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value, bound)):
        return f"{owner}.{node.attr}"
    return ""


def use_problems(tree: ast.Module, package: str) -> Iterator[str]:
    bound = {name: whole for name, whole, _ in imported(tree, package) if not whole.startswith(name + ".")}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and dotted(node, bound) in UNPICKLES | RUNS_TEXT:
            yield f"line {node.lineno}: {dotted(node, bound)}: nothing is unpickled, and no text is run"
        if isinstance(node, ast.Call):
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            if given.get("allow_pickle", False) is not False:
                yield f"line {node.lineno}: allow_pickle: nothing is unpickled"
            if dotted(node.func, bound) == "torch.load" and given.get("weights_only") is not True:
                yield f"line {node.lineno}: torch.load without weights_only=True unpickles"


def problems(source: str, package: str) -> list[str]:
    tree = ast.parse(source)
    return [*import_problems(tree, package), *use_problems(tree, package)]


def package_of(file: Path, parent: Path) -> str:
    return ".".join(file.relative_to(parent).parent.parts)


def sources() -> Iterator[tuple[Path, str]]:
    """Each source file with the dotted name of the package it lies in."""
    for parent, folder in ((ROOT, ROOT / "actorq"), (ROOT / "transports", ROOT / "transports")):
        for file in sorted(folder.rglob("*.py")):
            yield file, package_of(file, parent)


def test_every_file_keeps_to_its_layer() -> None:
    found = [
        f"{file.relative_to(ROOT)}, {problem}"
        for file, package in sources()
        for problem in problems(file.read_text(), package)
        if not (file == MAY_UNPICKLE and "nothing is unpickled" in problem)
    ]
    assert not found, "\n".join(found)


def test_every_package_has_a_layer() -> None:
    packages = {file.parent.name for file in (ROOT / "actorq").glob("*/__init__.py")}
    assert packages <= LAYERS.keys()
    modules = {file.stem for file in (ROOT / "actorq").glob("*.py")}
    assert modules <= {"__init__", "__main__"}, "a module belongs into one of the packages"


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("actorq", "from actorq.run import open_run"),
        ("actorq.actors", "from actorq.replay import Chunk"),
        ("actorq.actors", "from ..topology import load"),
        ("actorq.actors", "def f():\n    import torch.nn"),
        ("actorq.learning", "if TYPE_CHECKING:\n    from actorq.actors import Ref"),
        ("actorq.roles", "from actorq import run"),
        ("actorq.roles", "import actorq"),
        ("actorq.roles", "from actorq import Actor"),
        ("actorq.replay.memory_store", "from ...envs import task"),
        ("actorq.run", "import trio"),
        ("actorq.run", "from asyncio import sleep"),
        ("actorq_inproc", "from actorq.topology import Topology"),
        ("actorq.run", "import pickle"),
        ("actorq.run", "from cloudpickle import loads"),
        ("actorq.run", "import cloudpickle as c\nc.loads(b'')"),
        ("actorq.run", "f = exec"),
        ("actorq.run", "import torch\ntorch.load('x')"),
        ("actorq.run", "from torch import load\nload('x', weights_only=flag)"),
        ("actorq.run", "np.load('x', allow_pickle=True)"),
    ],
)
def test_a_problem_is_found(package: str, source: str) -> None:
    assert problems(source, package)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("actorq.actors", "import anyio\nfrom .mailbox import Mailbox\nfrom actorq.actors.refs import Ref"),
        ("actorq.roles", "from actorq.learning.agent import Agent\nimport actorq.replay.chunk"),
        ("actorq.replay.memory_store", "from ..experience import Chunk\nfrom . import memory"),
        ("actorq.cli", "from actorq import __version__\nfrom ..run import start"),
        ("actorq.learning", "import torch\ntorch.load('x', weights_only=True)\nnetwork.eval()"),
        ("actorq.launchers", "import cloudpickle\ncloudpickle.dumps(f)"),
        ("actorq_inproc", "from actorq.actors import Transport\nfrom .queue import Queue"),
        ("actorq.testing", "import trio, asyncio"),
    ],
)
def test_what_is_allowed_passes(package: str, source: str) -> None:
    assert problems(source, package) == []


def test_imports_without_torch() -> None:
    files = [file for name in LIGHT for file in (ROOT / "actorq" / name).rglob("*.py")]
    modules = sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)
    blocked = "import sys; sys.modules['torch'] = None; import " + ", ".join(["actorq", *modules])
    result = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_import_actorq_loads_nothing_else() -> None:
    listing = "import sys; before = set(sys.modules); import actorq; print(*set(sys.modules) - before)"
    result = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    loaded = {name for name in result.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert loaded == {"actorq"}
