"""TOML of a topology, which a run's folder keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import tomli_w

from actorq.topology.check.convert import plain
from actorq.topology.schema import NodeTable, Topology


def to_toml(topology: Topology) -> str:
    """A TOML file that `load` reads as an equal topology; keys with their default values are left out.

    Classes are named `package.module:Class`. Raises TypeError for a value that TOML can't hold.
    """
    tables = {**_declared(topology), **topology.tables}
    tables.pop("tables", None)
    return tomli_w.dumps(_writable(tables))


def _declared(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct's fields by their names in the file, without those that have their default value."""
    declared = {}
    for field in msgspec.structs.fields(type(struct)):
        value = getattr(struct, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value != default:
            declared[field.encode_name] = value
    return declared


def _writable(value: Any) -> Any:
    """The value with structs as tables and classes by name, and without None, which TOML lacks."""
    if isinstance(value, NodeTable):
        value = _declared(value)
        value |= value.pop("options", {})
    elif type(value).__module__ == Topology.__module__ and isinstance(value, msgspec.Struct):
        value = _declared(value)
    else:
        value = plain(value)
    if isinstance(value, Mapping):
        return {key: _writable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    return f"{value.__module__}:{value.__qualname__}" if isinstance(value, type) else value
