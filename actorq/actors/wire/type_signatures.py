"""Type signatures: text descriptions of wire types, the same in every process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import msgspec.inspect as inspect
import numpy as np

Fields = inspect.StructType | inspect.DataclassType | inspect.NamedTupleType | inspect.TypedDictType


def layout(kind: Fields) -> str:
    """A line describing the type's fields and their bounds, without defaults and documentation."""
    arrays = " ".join(_arrays(kind.cls))
    fields = " ".join(
        f"{field.encode_name}{'' if field.required else '?'}:{_words(field.type)}" for field in kind.fields
    )
    marks = ""
    if isinstance(kind, inspect.StructType):
        shape = "array" if kind.array_like else "object"
        marks = f" {shape} tag={kind.tag_field}:{kind.tag!r} strict={kind.forbid_unknown_fields}"
    return f"{_name(kind.cls)}{marks} {fields} [{arrays}]"


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _words(kind.type)
        case (
            inspect.StructType()
            | inspect.DataclassType()
            | inspect.NamedTupleType()
            | inspect.TypedDictType()
        ):
            return _name(kind.cls)  # described by a line of its own
        case inspect.UnionType():
            return "|".join(sorted(map(_words, kind.types)))
        case inspect.LiteralType():
            return f"Literal{sorted(map(repr, kind.values))}"
        case inspect.EnumType():
            return f"{_name(kind.cls)}{sorted(repr(member.value) for member in kind.cls)}"
    parts = []
    for name in kind.__struct_fields__:
        value = getattr(kind, name)
        if isinstance(value, inspect.Type):
            parts.append(_words(value))
        elif isinstance(value, tuple):
            parts.extend(map(_words, value))
        elif isinstance(value, type):
            parts.append(_name(value))
        elif value is not None:
            parts.append(f"{name}={value!r}")
    return f"{type(kind).__name__.removesuffix('Type')}({', '.join(parts)})"


def _name(kind: Any) -> str:
    """Name of a class, or of a generic class with its arguments."""
    kind = getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind  # Annotated
    reply_to = get_origin(kind) or kind
    arguments = ", ".join(map(_name, get_args(kind)))
    name = getattr(reply_to, "__qualname__", None)
    found = f"{reply_to.__module__}:{name}" if name is not None else repr(reply_to)
    return f"{found}[{arguments}]" if arguments else found


def _arrays(kind: Any) -> Iterator[str]:
    """Yield the dtypes of the arrays in a type's fields, in order; msgspec has no field types for them."""
    for argument in get_args(kind):
        yield from _dtypes(argument)
    for name, hint in get_type_hints(get_origin(kind) or kind).items():
        for dtype in _dtypes(hint):
            yield f"{name}:{dtype}"


def _dtypes(hint: Any) -> Iterator[str]:
    hint = getattr(hint, "__value__", hint)
    if get_origin(hint) is np.ndarray:
        yield _name(get_args(hint)[1])
    else:
        for argument in get_args(hint):
            yield from _dtypes(argument)
