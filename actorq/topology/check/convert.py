"""Conversion of plain values to structs, field by field: all problems are found, where msgspec stops at the
first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, get_args, get_origin

import msgspec

from actorq.topology.render.describe import bare, describe, options, show, split
from actorq.topology.suggest import suggestion

from .problems import Problems

UNUSABLE: Any = object()
"""Placeholder of a value that could not be converted; its problem has been reported."""


def convert(value: Any, kind: Any, where: str, problems: Problems) -> Any:
    """`value` as the type `kind`. Problems are added to `problems`, named by their key below `where`.

    A struct is returned even if some of its fields were wrong: those have their defaults, or are UNUSABLE.
    """
    inner, metas = split(kind)
    if inner is Any and not metas:
        return value
    alternatives = [bare(option) for option in options(inner)]
    structs = [option for option in alternatives if is_struct(option)]
    if len(structs) > 1 and isinstance(value, Mapping):
        return _convert_tagged(value, structs, where, problems)
    if len(structs) == 1 and isinstance(value, structs[0] | Mapping):
        return _convert_struct(plain(value), structs[0], where, problems)
    for option in alternatives:
        origin = get_origin(option)
        if origin is type and isinstance(value, type):
            return value
        if isinstance(value, Mapping) and isinstance(origin, type) and issubclass(origin, Mapping):
            return _convert_table(value, get_args(option), metas, where, problems)
        if origin in (list, tuple) and isinstance(value, list | tuple):
            before = len(problems)
            _check_items(value, get_args(option), where, problems)
            if len(problems) > before:
                return UNUSABLE
    return _convert_whole(value, kind, where, problems)


def plain(value: Any) -> Any:
    """A struct as a table of a file; anything else unchanged."""
    if isinstance(value, msgspec.Struct):
        fields, rules = msgspec.structs.fields(value), value.__struct_config__
        tag = {rules.tag_field: rules.tag} if rules.tag_field else {}
        return tag | {field.encode_name: getattr(value, field.name) for field in fields}
    return value


def below(where: str, key: Any) -> str:
    """The path of a key in the table at `where`."""
    name = str(key) or '""'
    return f"{where}.{name}" if where else name


def has_default(field: msgspec.structs.FieldInfo) -> bool:
    return field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _convert_struct(table: Mapping[Any, Any], kind: Any, where: str, problems: Problems) -> Any:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    rules = kind.__struct_config__
    before = len(problems)
    for key in table:
        if key not in fields and key != rules.tag_field and rules.forbid_unknown_fields:
            problems.add(below(where, key), "unknown key", suggestion(str(key), fields, "known keys"))
    values = {}
    for key, field in fields.items():
        if key in table:
            value = convert(table[key], field.type, below(where, key), problems)
            if value is not UNUSABLE or not has_default(field):
                values[field.name] = value
        elif not has_default(field):
            problems.add(below(where, key), "missing", f"expected {describe(field.type)}")
            values[field.name] = UNUSABLE
    try:
        return kind(**values)
    except Exception as error:  # a __post_init__ may raise anything, over UNUSABLE fields too
        if len(problems) == before:
            problems.add(where, str(error) or type(error).__name__)
        return UNUSABLE


def _convert_tagged(table: Mapping[Any, Any], kinds: list[Any], where: str, problems: Problems) -> Any:
    """One of several structs, which a key of theirs tells apart."""
    by_tag = {kind.__struct_config__.tag: kind for kind in kinds}
    key = kinds[0].__struct_config__.tag_field
    if key not in table:
        problems.add(below(where, key), "missing", f"expected one of {', '.join(map(show, by_tag))}")
    elif table[key] not in by_tag:
        problem = f"found {show(table[key])}"
        problems.add(below(where, key), problem, f"expected one of {', '.join(map(show, by_tag))}")
    else:
        return _convert_struct(table, by_tag[table[key]], where, problems)
    return UNUSABLE


def _convert_table(
    value: Mapping[Any, Any], kinds: tuple[Any, ...], metas: tuple[Any, ...], where: str, problems: Problems
) -> Any:
    key_kind, item_kind = kinds or (Any, Any)
    table = {}
    for key, item in value.items():
        right_key = convert(key, key_kind, below(where, key), problems)
        right = convert(item, item_kind, below(where, key), problems)
        if right is not UNUSABLE:
            table[key if right_key is UNUSABLE else right_key] = right
    if metas:
        _convert_whole(dict.fromkeys(map(str, value)), Annotated[dict, *metas], where, problems)
    return table


def _check_items(value: Any, kinds: tuple[Any, ...], where: str, problems: Problems) -> None:
    """Name each wrong item; `_convert_whole` makes the list."""
    for index, (item, kind) in enumerate(zip(value, _item_kinds(kinds, len(value)), strict=False)):
        convert(item, kind, f"{where}[{index}]", problems)


def _item_kinds(kinds: tuple[Any, ...], length: int) -> Iterator[Any]:
    if kinds[1:] in ((), (Ellipsis,)):
        kinds = kinds[:1] * length
    yield from kinds


def _convert_whole(value: Any, kind: Any, where: str, problems: Problems) -> Any:
    is_nan = isinstance(value, float) and math.isnan(value)
    try:
        if not is_nan:
            return msgspec.convert(value, _without_classes(kind))
    except Exception:  # the type may be a user's; msgspec's own text means little to a file's author
        pass
    problems.add(where, f"found {show(value)}", f"expected {describe(kind)}")
    return UNUSABLE


def _without_classes(kind: Any) -> Any:
    """A union without its `type[…]`, which msgspec doesn't support."""
    alternatives = options(bare(kind))
    rest = tuple(option for option in alternatives if get_origin(bare(option)) is not type)
    return kind if rest == alternatives else reduce(or_, rest)
