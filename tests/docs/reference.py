"""The tables of keys in the documentation, made from the structs that check a topology file.

`python -m tests.docs.reference` writes them anew between their marks in docs/topology.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from actorq.actors import Actor
from actorq.envs.task import NamedTask, Task
from actorq.learning.agent import Agent
from actorq.learning.algorithms.dqn import DQN
from actorq.learning.exploration import LinearEpsilon
from actorq.learning.networks.declaration import Conv, Linear, Residual
from actorq.replay.redis.config import RedisConfig
from actorq.topology import schema
from actorq.topology.check import roles
from actorq.topology.check.convert import has_default
from actorq.topology.render.describe import bare, describe, options, show, split

from .pages import ROOT

PAGE = ROOT / "docs" / "topology.md"
_MARKED = re.compile(r"(<!-- keys: ([\w.]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

ROLES: dict[str, type[Actor]] = {name: roles.find_role(name) for name in roles.installed_roles()}
STRUCTS: dict[str, Any] = {
    "Topology": schema.Topology,
    "Stop": schema.Stop,
    "Solved": schema.Solved,
    "Run": schema.RunTable,
    "NodeTable": schema.NodeTable,
    "ActorTable": schema.ActorTable,
    "Mailbox": schema.Mailbox,
    "Snapshot": schema.SnapshotTable,
    "GroupTable": schema.GroupTable,
    "Task": Task,
    "NamedTask": NamedTask,
    "Agent": Agent,
    "DQN.Config": DQN.Config,
    "Conv": Conv,
    "Linear": Linear,
    "Residual": Residual,
    "LinearEpsilon": LinearEpsilon,
    "RedisConfig": RedisConfig,
    **{f"config.{name}": role.Config for name, role in ROLES.items() if name != "parameter_front"},
}
"""All that a file may hold."""

_OUT_OF_FILES = {"Topology": {"tables"}, "NodeTable": {"options"}, "NamedTask": set(Task.__struct_fields__)}
_SAID_HERE = {  # keys whose annotations say nothing of their meaning
    "ActorTable.role": "which actor class: a built-in role, or one of your own",
    "ActorTable.config": "the role's own settings, declared by its `Config`",
}


def table(name: str) -> str:
    """One struct's keys as a table."""
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *_rows(name, STRUCTS[name])]
    return "\n".join(rows) + "\n"


def _rows(name: str, struct: Any) -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        if field.name in _OUT_OF_FILES.get(name, ()):
            continue
        meaning = _meaning(field.type) or _SAID_HERE[f"{name}.{field.name}"]
        cells = (f"`{field.encode_name}`", _type(field.type), _default(field), meaning.rstrip("."))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(kind: Any) -> str:
    inner, metas = split(kind)
    words = [meta.extra["words"] for meta in metas if meta.extra and "words" in meta.extra]
    return words[0] if words else "any table" if inner is Any else describe(kind)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if not has_default(field):
        return "required"
    made = field.default_factory is not msgspec.NODEFAULT
    value = field.default_factory() if made else field.default
    if value is None or value in ({}, ()) or isinstance(value, msgspec.Struct):
        return ""
    return f"`{show(value)}`"


def _meaning(kind: Any) -> str:
    metas = [*split(kind)[1], *(meta for option in options(bare(kind)) for meta in split(option)[1])]
    said = next((meta.description for meta in metas if meta.description), "")
    return said[:1].lower() + said[1:]


def written(text: str) -> str:
    """The page with its tables as they should be."""
    return _MARKED.sub(lambda match: match[1] + table(match[2]) + match[4], text)


def shown(text: str) -> set[str]:
    """The structs whose tables the page has."""
    return {match[2] for match in _MARKED.finditer(text)}


def main(page: Path = PAGE) -> None:
    page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
