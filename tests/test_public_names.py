"""The names that `import actorq` and `actorq.actors.sync` offer, and their signatures."""

import ast
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import actorq
from actorq.actors import sync

STUB = Path(actorq.__file__).with_suffix(".pyi")

USERS_MODULE = """
import actorq
from actorq import Actor, Message, Ref, Request, handles

class Total(Message):
    value: int

class Add(Message):
    amount: int

class GetTotal(Request[Total]):
    pass

class Counter(Actor):
    class Config(actorq.Config):
        start: int = 0

    other: Ref[Add | GetTotal]

    @handles
    async def add(self, message: Add) -> None:
        total = await self.other.ask(GetTotal())
        number: int = total.value + self.config.start
        await self.other.tell(Add(amount=number))
"""


SIGNATURES = Path(__file__).with_name("public_signatures.txt")


def declared(name: str, value: Any) -> str:
    """As it is written in the source: `async wait(self) -> Summary`."""
    signature = str(inspect.signature(value)).replace("'", "") if inspect.isfunction(value) else ""
    return f"{'async ' * inspect.iscoroutinefunction(value)}{name}{signature}"


def members(cls: type) -> Iterator[str]:
    """A line for each public attribute that the class itself, or a base in actorq, defines."""
    for name in sorted(dir(cls)):
        owner = next((base for base in cls.__mro__ if name in vars(base)), object)
        value = inspect.getattr_static(cls, name)
        if owner.__module__.startswith("actorq") and (name == "__init__" or not name.startswith("_")):
            yield declared(name, value.__func__ if isinstance(value, classmethod) else value)


def declared_class(name: str, cls: type) -> Iterator[str]:
    yield f"class {name}"
    yield from (f"    {line}" for line in members(cls))


def public_signatures() -> Iterator[str]:
    for name in sorted(actorq.__all__):
        value = getattr(actorq, name)
        if isinstance(value, ModuleType):  # the package that can be called
            value = import_module("actorq.run.open_run").run
        if inspect.isclass(value):
            yield from declared_class(name, value)
        else:
            yield declared(name, value)
    for name, value in sorted(vars(sync).items()):
        if inspect.isclass(value) and value.__module__ == sync.__name__ and not name.startswith("_"):
            yield from declared_class(f"actors.sync.{name}", value)


def test_public_signatures() -> None:
    found = "\n".join(public_signatures()) + "\n"
    if os.environ.get("UPDATE_SIGNATURES"):
        SIGNATURES.write_text(found)
    assert found == SIGNATURES.read_text(), (
        "if this is meant: UPDATE_SIGNATURES=1 pytest tests/test_public_names.py"
    )


def test_the_stub_names_what_the_package_offers() -> None:
    named = {
        alias.asname
        for node in ast.parse(STUB.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert named | {"__version__"} == set(actorq.__all__)


UNSEEN = ["gymnasium.*", "matplotlib.*", "numba.*", "rich.*", "tensorboard.*", "torch.*", "typer.*"]
"""No public name has a type of theirs, and to read their annotations takes most of a minute."""


@pytest.mark.timeout(300)
def test_a_users_strictly_typed_module(tmp_path: Path) -> None:
    module = tmp_path / "counter.py"
    module.write_text(USERS_MODULE)
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nstrict = True\n[mypy-{','.join(UNSEEN)}]\nfollow_imports = skip\n"
    )
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(module)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
