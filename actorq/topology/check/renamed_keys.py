"""Former names of ports and settings, so that topology files written before a renaming keep working."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from actorq.actors.actor import Actor
from actorq.topology.schema import ActorTable, Topology

from .ports import Roles
from .problems import Problems


def rename_keys(topology: Topology, roles: Roles) -> Topology:
    """The topology with the keys of each role's `renamed_keys` in `ports` and `config` replaced by the new.

    Those renamed to "" are left out. Where a table has both, the old one stays and is refused as unknown.
    """
    actors = {name: _renamed(actor, roles.get(name)) for name, actor in topology.actors.items()}
    return msgspec.structs.replace(topology, actors=actors)


def rename_table_keys(table: Any, kind: Any, where: str, problems: Problems) -> Any:
    """A role's table with the keys of its struct's `renamed_keys`, such as {"double": "dqn.double"}, moved.

    Both at once are a problem.
    """
    renamed: Mapping[str, str] = getattr(kind, "renamed_keys", {})
    if not isinstance(table, Mapping) or renamed.keys().isdisjoint(table):
        return table
    moved = dict(table)
    for old, new in renamed.items():
        inner, key = new.split(".")
        within = moved.get(inner, {})
        if old in moved and isinstance(within, Mapping):
            value = moved.pop(old)
            if key in within:
                problems.add(
                    f"{where}.{old}", f"is given twice: its place is {where}.{new}", "leave this one out"
                )
            else:
                moved[inner] = {**within, key: value}
    return moved


def _renamed(actor: ActorTable, role: type[Actor] | None) -> ActorTable:
    for old, new in role.renamed_keys.items() if role else ():
        table, _, old_key = old.partition(".")
        new_key = new.partition(".")[2]
        given = getattr(actor, table)
        if isinstance(given, Mapping) and old_key in given and new_key not in given:
            renamed = {new_key if key == old_key else key: value for key, value in given.items()}
            renamed.pop("", None)
            actor = msgspec.structs.replace(actor, **{table: renamed})
    return actor
