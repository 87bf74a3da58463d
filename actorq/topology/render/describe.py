"""Descriptions of types and values in the notation of a topology file."""

from __future__ import annotations

import types
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

_WORDS: dict[Any, str] = {
    Any: "anything",
    bool: "true or false",
    bytes: "text in base64",
    dict: "a table",
    float: "a number",
    int: "an integer",
    list: "a list",
    str: "a text",
    type(None): "nothing",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "a multiple of"}
_LONGEST = 60


def split(kind: Any) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    """A type without its annotations, and those of them that constrain it."""
    if get_origin(kind) is Annotated:
        inner, metas = split(get_args(kind)[0])
        return inner, metas + tuple(meta for meta in kind.__metadata__ if isinstance(meta, msgspec.Meta))
    return kind, ()


def bare(kind: Any) -> Any:
    """A type without its annotations."""
    return split(kind)[0]


def options(kind: Any) -> tuple[Any, ...]:
    """A union's members; anything else as itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def describe(kind: Any) -> str:
    """The values that a type allows: `describe(Annotated[int, Meta(ge=1)])` is "an integer (at least 1)".

    A type can bring its own text: `Meta(extra={"words": "a name of letters, digits, _ and -"})`.
    """
    inner, metas = split(kind)
    for meta in metas:
        if meta.extra and "words" in meta.extra:
            return str(meta.extra["words"])
    bounds = ", ".join(bound for meta in metas for bound in _bounds(meta))
    what, comma, items = _describe_bare(inner).partition(", each item ")
    return what + (f" ({bounds})" if bounds else "") + comma + items


def _describe_bare(kind: Any) -> str:
    members = options(kind)
    if len(members) > 1:
        described = [describe(member) for member in members if member is not type(None)]
        return " or ".join(dict.fromkeys(described))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _one_of(arguments)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _one_of(tuple(member.value for member in kind))
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return "a list of " + ", ".join(describe(argument) for argument in arguments)
    if origin in (list, tuple, set, frozenset) and arguments:
        return f"a list, each item {describe(arguments[0])}"
    if origin is type:
        return "a class"
    if origin is not None and issubclass(origin, Mapping):
        return "a table"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "a table"
    return _WORDS.get(kind) or str(getattr(kind, "__name__", kind))


def _one_of(values: tuple[Any, ...]) -> str:
    shown = [show(value) for value in values]
    return shown[0] if len(shown) == 1 else "one of " + ", ".join(shown)


def _bounds(meta: msgspec.Meta) -> list[str]:
    bounds = [
        f"{word} {_number(value)}"
        for name, word in _BOUNDS.items()
        if (value := getattr(meta, name)) is not None
    ]
    if meta.pattern is not None:
        bounds.append(f"matching {meta.pattern}")
    if meta.min_length is not None:
        bounds.append(f"length at least {meta.min_length}")
    if meta.max_length is not None:
        bounds.append(f"length at most {meta.max_length}")
    return bounds


def show(value: Any) -> str:
    """A value in the file's notation, shortened when long."""
    text = _show(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value[:_LONGEST]}"'
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    if isinstance(value, int) and abs(value) >= 10**_LONGEST:  # Python refuses to print very long ones
        return "a number beyond all bounds"
    return str(value) if isinstance(value, int | float) else f"{value} (a {type(value).__name__})"


def _number(value: float) -> str:
    """`Meta(gt=0)` and `Meta(gt=0.0)` are equal, so typing may give one for the other."""
    return str(int(value)) if float(value).is_integer() else str(value)
