"""The names that `import actorq` offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import actorq

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


def test_the_stub_names_what_the_package_offers() -> None:
    named = {
        alias.asname
        for node in ast.parse(STUB.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert named | {"__version__"} == set(actorq.__all__)


@pytest.mark.timeout(300)
def test_a_users_strictly_typed_module(tmp_path: Path) -> None:
    module = tmp_path / "counter.py"
    module.write_text(USERS_MODULE)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(module)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
