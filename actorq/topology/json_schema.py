"""JSON Schema of topology files, with which editors complete and check them.

Draft 7, and one alternative in `anyOf` for each role: TOML editors complete from that, and not from `if`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from actorq.actors.actor import Actor
from actorq.actors.definition import Port

from .check.convert import has_default
from .check.launchers import LauncherType, find_launcher, installed_launchers
from .check.roles import RoleError, find_role, installed_roles
from .schema import HERE, OWN_KEYS, ActorTable, Topology

Schema = dict[str, Any]

_CLASS_PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"
_OWN = [
    field for field in msgspec.structs.fields(Topology) if field.name in OWN_KEYS and field.name != "actors"
]
_OF_ACTOR = [field for field in msgspec.structs.fields(ActorTable) if field.name not in ("role", "config")]


def json_schema() -> Schema:
    """The schema of files that use the installed roles, or classes of the user's own.

    It is weaker than `check`: it can't express which actors may be wired together, nor the configs and tables
    of the user's own classes. Imports the installed roles' modules.
    """
    roles, launchers = _usable_roles(), _usable_launchers()
    tables = _declared_tables(roles)
    kinds = [field.type for field in (*_OWN, *_OF_ACTOR)]
    kinds += [cls.Config for cls in roles.values()]
    kinds += [kind for kinds_of in tables.values() for kind in kinds_of]
    kinds += [launcher.Options for launcher in launchers.values()]
    # All at once, so that structs of the same name (each role's Config) get distinct names.
    schemas, definitions = msgspec.json.schema_components(kinds, ref_template="#/definitions/{name}")
    rest = iter(_without_null(schema) for schema in schemas)
    properties = {field.encode_name: _with_default(next(rest), field) for field in _OWN}
    of_actor = {field.encode_name: _with_default(next(rest), field) for field in _OF_ACTOR}
    choices = [_actor_of_role(name, cls, of_actor, next(rest)) for name, cls in roles.items()]
    properties["actors"] = {
        "description": "the actors, in the order in which they start",
        "type": "object",
        "minProperties": 1,
        "propertyNames": properties["nodes"]["propertyNames"],
        "additionalProperties": {"anyOf": [*choices, _actor_of_own_class(of_actor)]},
    }
    for table, kinds_of in tables.items():
        choices = [next(rest) for _ in kinds_of]
        properties[table] = choices[0] if len(choices) == 1 else {"anyOf": choices}
    node = definitions["NodeTable"]["properties"]
    del node["options"]
    node["place"]["enum"] = [HERE, *launchers]
    node.update(zip(launchers, rest, strict=True))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "actorq topology",
        "type": "object",
        "properties": properties,
        "required": ["actors"],
        "additionalProperties": {
            "type": "object",
            "description": "a table that a class of your own declares",
        },
        "definitions": {name: _without_null(schema) for name, schema in definitions.items()},
    }


def _usable_roles() -> dict[str, type[Actor]]:
    roles = {}
    for name, path in installed_roles().items():
        try:
            roles[name] = find_role(path)
        except RoleError:  # `actorq roles` shows the reason
            continue
    return roles


def _usable_launchers() -> dict[str, LauncherType]:
    launchers = {}
    for name in installed_launchers():
        with suppress(Exception):  # a third party's module may raise anything; `check` reports it
            launchers[name] = find_launcher(name)
    return launchers


def _declared_tables(roles: Mapping[str, type[Actor]]) -> dict[str, list[Any]]:
    """Table name to the types that the roles declare it with: one, if they agree."""
    tables: dict[str, list[Any]] = {}
    for cls in roles.values():
        for table, kind in cls.definition.tables.items():
            if table not in OWN_KEYS and kind not in tables.setdefault(table, []):
                tables[table].append(kind)
    return tables


def _actor_of_role(name: str, cls: type[Actor], of_actor: Schema, config: Schema) -> Schema:
    summary = (cls.__doc__ or "").strip().partition("\n")[0]
    ports = [port for port in cls.definition.ports.values() if port.kind != "topic"]
    required = [port.name for port in ports if port.required]
    wired = {
        "type": "object",
        "properties": {port.name: _port(port) for port in ports},
        "required": required,
        "additionalProperties": False,
    }
    config_needed = not all(map(has_default, msgspec.structs.fields(cls.Config)))
    return {
        "type": "object",
        "properties": {
            "role": {"const": name, "description": summary},
            **of_actor,
            "ports": wired,
            "config": config,
        },
        "required": ["role", *(["ports"] if required else []), *(["config"] if config_needed else [])],
        "additionalProperties": False,
    }


def _actor_of_own_class(of_actor: Schema) -> Schema:
    role = {"type": "string", "pattern": _CLASS_PATTERN, "description": "package.module:Class of your own"}
    return {
        "type": "object",
        "properties": {"role": role, **of_actor, "config": {"type": "object"}},
        "required": ["role"],
        "additionalProperties": False,
    }


def _port(port: Port) -> Schema:
    one: Schema = {"type": "string"}
    many = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
    kind = one if port.kind == "ref" else {"anyOf": [one, many]}
    return {"description": port.describe(), **kind}


def _with_default(schema: Schema, field: msgspec.structs.FieldInfo) -> Schema:
    is_plain = isinstance(field.default, bool | int | float | str) and field.name != "name"
    return {**schema, "default": field.default} if is_plain else schema


def _without_null(schema: Any) -> Any:
    """The schema without `null`, which TOML lacks: a key is left out instead."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _without_null(item) for key, item in schema.items() if not (key == "default" and item is None)
    }
    if "anyOf" in kept:
        choices = [choice for choice in kept["anyOf"] if choice != {"type": "null"}]
        kept = {**choices[0], **kept} if len(choices) == 1 else {**kept, "anyOf": choices}
        if len(choices) == 1:
            del kept["anyOf"]
    return kept
