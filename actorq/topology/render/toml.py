"""A topology as a file again: what a run's folder keeps of the topology as it ran."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from actorq.topology.check.convert import plain
from actorq.topology.schema import NodeTable, Topology

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(topology: Topology) -> str:
    """A TOML file that `load` reads as an equal topology; what has its default value is left out.

    Classes are named `package.module:Class`. Raises TypeError for a value that TOML can't hold.
    """
    tables = {**_declared(topology), **topology.tables}
    tables.pop("tables", None)
    return "\n".join(_table(tables, ())).lstrip("\n") + "\n"


def _declared(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct's fields by their names in the file, less those that have their default value."""
    declared = {}
    for field in msgspec.structs.fields(type(struct)):
        value = getattr(struct, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value is not None and value != default:
            declared[field.encode_name] = value
    return declared


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """The table's own keys, then its subtables, each under a heading."""
    values = {key: _as_table(value) for key, value in table.items() if value is not None}
    single = {key: value for key, value in values.items() if not isinstance(value, Mapping) or len(path) > 1}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in single.items()]
    if path and (lines or len(single) == len(values)):
        lines = ["", f"[{'.'.join(map(_key, path))}]", *lines]
    for key, value in values.items():
        if key not in single:
            lines += _table(value, (*path, key))
    return lines


def _as_table(value: Any) -> Any:
    if type(value).__module__ == Topology.__module__ and isinstance(value, msgspec.Struct):
        table = _declared(value)
        options = table.pop("options", {}) if isinstance(value, NodeTable) else {}
        return {**table, **options}
    return plain(value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    value = _as_table(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_value(item)}" for key, item in value.items() if item is not None)
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, type):
        return _text(f"{value.__module__}:{value.__qualname__}")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(f"TOML can't hold {value!r}")


def _text(text: str) -> str:
    """JSON's escapes are TOML's too, but for DEL, which JSON leaves bare."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
