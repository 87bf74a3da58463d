"""Registry of the types that a process decodes, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import msgspec.inspect as inspect
import numpy as np

from actorq.actors.definition import members
from actorq.actors.errors import ActorqError, DefinitionError
from actorq.actors.message import Message, Request, reply_type

from .type_signatures import Fields, layout

NOTHING = ""
"""Name of None, the reply to a message that is not a request."""

_SERIALIZABLE = (
    "numbers, booleans, text, bytes, None, dates, enums, numpy arrays, and Structs, dataclasses, lists, "
    "tuples, sets and dicts of these"
)


class WireError(ActorqError, ValueError):
    """A value that can't be encoded, or a frame that can't be decoded or isn't allowed."""


class Registry:
    """Struct types by their names `module:qualname`. No other type is decoded."""

    def __init__(self, *types: type[msgspec.Struct]) -> None:
        self._names: dict[type, str] = {type(None): NOTHING}
        self._seen: dict[Any, Fields] = {}
        self.register(*types)

    def register(self, *types: type[msgspec.Struct]) -> None:
        """Register these messages, the Structs inside them, and the reply types of requests.

        Raises DefinitionError naming the fields that can't be encoded, or if another type has the same name.
        Registering a type again changes nothing.
        """
        for struct in types:
            if struct not in self._names:
                self._admit(f"{struct.__module__}:{struct.__qualname__}", struct)
                if issubclass(struct, Request):
                    self.register(*_replies(struct))

    def _admit(self, name: str, struct: type[msgspec.Struct]) -> None:
        if name in self._names.values():
            raise DefinitionError(f"there are two message types {name}: give one of them another name")
        seen: dict[Any, Fields] = {}
        try:
            problems = list(_problems(inspect.type_info(struct), name, seen))
        except (TypeError, NameError, RecursionError) as error:
            raise DefinitionError(f"{name} can't be serialized: {error}") from error
        if problems:
            raise DefinitionError(f"{'; '.join(problems)}. Serializable are: {_SERIALIZABLE}")
        self._seen |= seen
        self._names[struct] = name

    def name_of(self, kind: type) -> str:
        """The name of a registered type."""
        return self._names[kind]

    def layouts(self) -> list[str]:
        """A line describing the fields of each registered type, nested types included."""
        return sorted(map(layout, self._seen.values()))


def _replies(request: type[Request[Any]]) -> list[type[msgspec.Struct]]:
    replies = [reply for reply in members(reply_type(request)) if reply is not type(None)]
    for reply in replies:
        if not (isinstance(reply, type) and issubclass(reply, Message)):
            raise DefinitionError(f"{request.__qualname__} asks for {reply!r}: a reply is a Message or None")
    return replies


def _problems(kind: inspect.Type, where: str, seen: dict[Any, Fields]) -> Iterator[str]:
    """Yield a sentence for each part of the type that can't be encoded."""
    match kind:
        case inspect.CustomType(cls=cls):
            if not issubclass(cls, np.ndarray):
                yield f"{where} is {cls.__module__}.{cls.__qualname__}, which can't be serialized"
        case inspect.RawType() | inspect.ExtType() | inspect.MemoryViewType():
            yield f"{where} is {type(kind).__name__.removesuffix('Type').lower()}, which can't be serialized"
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            yield from _problems(kind.item_type, where, seen)
        case inspect.TupleType():
            for item in kind.item_types:
                yield from _problems(item, where, seen)
        case inspect.DictType():
            yield from _problems(kind.key_type, where, seen)
            yield from _problems(kind.value_type, where, seen)
        case inspect.UnionType():
            for item in kind.types:
                yield from _problems(item, where, seen)
        case inspect.Metadata():
            yield from _problems(kind.type, where, seen)
        case (
            inspect.StructType()
            | inspect.DataclassType()
            | inspect.NamedTupleType()
            | inspect.TypedDictType()
        ):
            if kind.cls not in seen:
                seen[kind.cls] = kind
                for field in kind.fields:
                    yield from _problems(field.type, f"{kind.cls.__qualname__}.{field.name}", seen)
        case _:
            pass
