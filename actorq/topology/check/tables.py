"""Tables that roles declare, such as `[agent]`, and the topology's own tables that they read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec

from actorq.topology.render.describe import bare, options
from actorq.topology.schema import OWN_KEYS, Topology
from actorq.topology.suggest import nearest, quoted, suggestion

from .convert import UNUSABLE, below, convert, is_struct, plain
from .ports import Roles
from .problems import Problems
from .renamed_keys import rename_table_keys

LENT = ("stop", "run")
"""Topology's own tables that a role may read."""


def read_tables(topology: Topology, roles: Roles, all_found: bool, problems: Problems) -> dict[str, Any]:
    """The declared tables by name, each as the struct that its roles declare.

    A table may be left out of the file if all its keys have defaults; and if all its readers declare it as
    `Table[… | None]`, it is None then. `all_found`: every actor's role is known; an unknown one might have
    declared the tables that no other reads.
    """
    declared: dict[str, Any] = {}
    readers: dict[str, list[str]] = {}
    for actor, cls in roles.items():
        for table, kind in cls.definition.tables.items():
            if table in OWN_KEYS:
                if table not in LENT:
                    problem = f'{cls.__name__} declares a table "{table}", which topology keeps for itself'
                    problems.add(f"actors.{actor}.role", problem, f"it lends {quoted(LENT)}")
                continue
            readers.setdefault(table, []).append(actor)
            known = declared.setdefault(table, kind)
            if _needed(known) != _needed(kind):
                problem = f"declared as {_name(known)} and as {_name(kind)}"
                problems.add(table, problem, f"the roles of {quoted(readers[table])} must agree")
            elif type(None) not in options(kind):
                declared[table] = kind
    _check_unknown(topology, declared, all_found, problems)
    return {
        table: _read(table, kind, topology.tables, readers[table], problems)
        for table, kind in declared.items()
    }


def lent(topology: Topology, table: str, kind: Any, problems: Problems) -> Any:
    """One of the topology's own tables, with only those keys that the reader's struct has."""
    if problems.touch(table):
        return UNUSABLE
    return convert(_view(getattr(topology, table), kind), kind, table, problems)


def tables_of(cls: Any, topology: Topology, tables: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """The tables of one actor."""
    return {
        table: lent(topology, table, kind, problems) if table in LENT else tables.get(table)
        for table, kind in cls.definition.tables.items()
    }


def add_reported(
    tell: Callable[[], Iterable[tuple[str, str]]],
    place: Callable[[str], str],
    teller: str,
    problems: Problems,
    whole: bool = True,
) -> None:
    """Add the problems that a role or table finds in its own settings; `place` maps a key to its path.

    Unless it was given the `whole` of them, its own failure is not added.
    """
    try:
        for key, sentence in tell():
            problems.add(place(key), sentence)
    except Exception as error:  # it may be a user's code
        if not whole:
            return
        problems.add(teller, f"its own check failed: {type(error).__name__}: {error}")


def _read(table: str, kind: Any, given: Mapping[str, Any], readers: list[str], problems: Problems) -> Any:
    if table not in given and type(None) in options(kind):
        return None
    before = len(problems)
    value = convert(rename_table_keys(given.get(table, {}), kind, table, problems), kind, table, problems)
    if len(problems) == before:
        if isinstance(value, tuple):
            for index, each in enumerate(value):
                _ask(each, f"{table}[{index}]", problems)
        else:
            _ask(value, table, problems)
    return value


def _ask(value: Any, where: str, problems: Problems) -> None:
    """Collect a table's own problems."""
    tell = getattr(value, "problems", None)
    if isinstance(value, msgspec.Struct) and callable(tell):
        add_reported(tell, partial(below, where), where, problems)


def _check_unknown(
    topology: Topology, declared: Mapping[str, Any], all_found: bool, problems: Problems
) -> None:
    known = [*OWN_KEYS, *declared]
    for key, value in topology.tables.items():
        if key not in declared and (all_found or nearest(str(key), known)):
            is_table = isinstance(value, Mapping | msgspec.Struct)
            problem = "unknown table: no actor's role reads it" if is_table else "unknown key"
            problems.add(below("", key), problem, suggestion(str(key), known, "known"))


def _view(value: Any, kind: Any) -> Any:
    """The part of a table for which the struct `kind` has fields; fields that are None get their defaults."""
    structs = [option for option in map(bare, options(bare(kind))) if is_struct(option)]
    if len(structs) != 1 or not isinstance(value, msgspec.Struct):
        return value
    table = plain(value)
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(structs[0])}
    return {key: _view(table[key], kinds[key]) for key in kinds if table.get(key) is not None}


def _needed(kind: Any) -> tuple[Any, ...]:
    """The type without its None."""
    return tuple(option for option in options(kind) if option is not type(None))


def _name(kind: Any) -> str:
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', kind)}"
