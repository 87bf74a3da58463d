"""Typing of messages, ports and configs: type checkers accept correct code and reject wrong code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAD = """
from __future__ import annotations

import msgspec
import actorq.actors as actorq
from actorq.actors import Actor, Feed, Group, Message, Ref, Request, Topic, handles


class Add(Message):
    amount: int
    note: str = ""
    tags: list[str] = msgspec.field(default_factory=list)


class Total(Message):
    value: int


class GetTotal(Request[Total]):
    pass


class Weights(Message):
    version: int


class Counter(Actor):
    class Config(actorq.Config):
        start: int = 0

    audit: Ref[Add] | None
    other: Ref[Add | GetTotal]
    peers: Group[Add | GetTotal]
    published: Topic[Weights]
    followed: Feed[Weights]

    @handles
    async def add(self, message: Add) -> None:
        {line}

    @handles
    async def weights(self, message: Weights) -> None: ...
"""

RIGHT = """
reveal_type(await self.other.ask(GetTotal()))
reveal_type(await self.peers.all().ask(GetTotal(), timeout=1.0))
reveal_type(await self.peers.by("key").ask(GetTotal()))
reveal_type(self.config.start)
reveal_type(message.amount)
reveal_type(await self.in_thread(divmod, 7, 2))
await self.other.tell(Add(1))
await self.other.tell(Add(amount=1, note="x", tags=["y"]))
await self.peers.any().tell(Add(1))
await self.peers.all().tell(Add(1))
await self.published.publish(Weights(1))
if self.audit is not None: await self.audit.tell(Add(1))
self.start_soon(self.other.tell, Add(1))
actorq.ActorSpec(name="a", cls=Counter, config=Counter.Config(start=3))
"""

REVEALED = ["Total", "list[Total]", "Total", "int", "int", "tuple[int, int]"]

WRONG = {
    "await self.other.tell(Total(1))": "arg-type",
    "await self.other.tell(Weights(1))": "arg-type",
    "await self.other.ask(Add(1))": "arg-type",
    "await self.audit.tell(Add(1))": "union-attr",
    "if self.audit: await self.audit.ask(GetTotal())": "arg-type",
    "await self.peers.all().ask(Add(1))": "arg-type",
    "await self.peers.tell(Add(1))": "attr-defined",
    "await self.published.publish(Add(1))": "arg-type",
    "x: str = await self.other.ask(GetTotal())": "arg-type",
    "y: str = self.config.start": "assignment",
    "self.config.finish": "attr-defined",
    "self.config.start = 3": "misc",
    "message.amount = 3": "misc",
    "Add()": "call-arg",
    "Add('one')": "arg-type",
    "Add(1, wrong=2)": "call-arg",
    "Counter.Config(3)": "call-arg",
    "Counter.Config(begin=3)": "call-arg",
    "self.start_soon(self.other.tell, Total(1))": "arg-type",
}


def lines_of(text: str) -> str:
    return "\n        ".join(text.strip().splitlines())


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Each line in a class of its own module, with what mypy says of it."""
    folder = tmp_path_factory.mktemp("snippets")
    lines = [*RIGHT.strip().splitlines(), *WRONG]
    (folder / "snippets.py").write_text(HEAD.replace("{line}", "\n        ".join(lines)))
    first = HEAD[: HEAD.index("{line}")].count("\n") + 1
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--config-file=",
        "snippets.py",
    ]
    cache = ["--cache-dir", str(ROOT / ".mypy_cache" / "snippets")]
    environment = {"MYPYPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [*command, *cache], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    said: dict[int, str] = {}
    for found in re.finditer(r"^snippets\.py:(\d+): (error|note): (.*)$", done.stdout, re.MULTILINE):
        line = int(found[1]) - first
        assert 0 <= line < len(lines), f"outside of the snippets: {found[0]}\n{done.stderr}"
        said[line] = said.get(line, "") + f"{found[2]}: {found[3]}\n"
    return [(line, said.get(number, "")) for number, line in enumerate(lines)]


@pytest.mark.timeout(300)
def test_what_is_right_passes_and_has_its_type(checked: list[tuple[str, str]]) -> None:
    right = checked[: len(RIGHT.strip().splitlines())]
    assert [(line, said) for line, said in right if "error" in said] == []
    revealed = [re.search(r'type is "(.*)"', said) for line, said in right if "reveal_type" in line]
    names = [re.sub(r"(snippets|builtins)\.", "", found[1]) for found in revealed if found is not None]
    assert names == REVEALED


@pytest.mark.timeout(300)
def test_what_is_wrong_is_an_error(checked: list[tuple[str, str]]) -> None:
    said = dict(checked[len(RIGHT.strip().splitlines()) :])
    unseen = {line: said[line] for line, code in WRONG.items() if f"[{code}]" not in said[line]}
    assert unseen == {}
