"""Messages: frozen, typed values with numpy arrays as fields; sending makes their arrays read-only."""

from __future__ import annotations

import sys
from functools import cache
from typing import (
    Any,
    ClassVar,
    ForwardRef,
    Generic,
    Literal,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
)

import msgspec
import numpy as np

from .errors import DefinitionError

R = TypeVar("R", covariant=True)

HEADER_BYTES = 64
"""Bytes that a message counts for besides its payload."""

VARIABLE = -1
"""`fixed_size` of message types whose instances differ in size."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base class of messages from one actor to another: subclass it and annotate the fields.

    Sending gives a message away: its arrays become read-only, and an array that shares memory with a buffer
    that can still be written is copied first. Lists and dicts in it must not be changed afterwards.
    """

    delivery: ClassVar[Literal["each", "latest"]] = "each"
    """`"latest"` keeps only the newest unread message of this type from each sender; not for requests."""

    def _itself(self) -> Self:
        return self


class Request(Message, Generic[R], frozen=True):
    """A message that is answered: `class GetTotal(Request[Total])` asks for a `Total`."""

    def _reply(self) -> R:  # only for type checkers: ties a request to its reply
        raise TypeError("a request's reply comes from asking")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a topology file may set of an actor, typed and checked: `class Config(actorq.Config)`."""


@cache
def reply_type(request: type[Request[Any]]) -> Any:
    """The reply type of a request; `NoneType` for `Request[None]`.

    Raises DefinitionError if the class does not declare it.
    """
    for cls in request.__mro__:
        for base in getattr(cls, "__orig_bases__", ()):
            reply_to = get_origin(base)
            if isinstance(reply_to, type) and issubclass(reply_to, Request):
                (reply,) = get_args(base)
                if isinstance(reply, ForwardRef):
                    reply = _late(cls, reply.__forward_arg__)
                if not isinstance(reply, TypeVar):
                    return type(None) if reply is None else reply
    raise DefinitionError(
        f"{request.__qualname__} does not say what it asks for: "
        f"write class {request.__name__}(Request[Reply])"
    )


def _late(request: type, name: str) -> Any:
    """A reply named as text, `Request["Total"]`."""
    try:
        return getattr(sys.modules[request.__module__], name)
    except AttributeError:
        raise DefinitionError(
            f"{request.__qualname__} asks for {name!r}, which {request.__module__} does not define: "
            f"define the reply before the request and write Request[{name}]"
        ) from None


_SCALARS = {int, float, bool, type(None), complex}


def fixed_size(message_type: type[Message]) -> int:
    """Bytes of every instance, or VARIABLE if the fields can hold arrays, text or containers."""
    try:
        fields = msgspec.structs.fields(message_type)
    except NameError:  # annotated with a class local to a function
        return VARIABLE
    if all(field.type in _SCALARS for field in fields):
        return HEADER_BYTES + 8 * len(fields)
    return VARIABLE


def seal(message: Message) -> int:
    """Make the message's arrays read-only (see `Message`) and return its size in bytes."""
    return HEADER_BYTES + _seal_fields(message)


def _seal_fields(struct: msgspec.Struct) -> int:
    size = 0
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        sealed, nbytes = _seal_value(value)
        size += nbytes
        if sealed is not value:
            msgspec.structs.force_setattr(struct, name, sealed)
    return size


def _seal_value(value: Any) -> tuple[Any, int]:
    if isinstance(value, np.ndarray):
        return sealed_array(value), value.nbytes
    if isinstance(value, str | bytes | bytearray):
        return value, len(value)
    if isinstance(value, msgspec.Struct):
        return value, _seal_fields(value)
    if isinstance(value, dict):
        pairs = {key: _seal_value(item) for key, item in value.items()}
        changed = any(pairs[key][0] is not item for key, item in value.items())
        size = sum(nbytes for _, nbytes in pairs.values()) + 16 * len(value)
        return ({key: item for key, (item, _) in pairs.items()} if changed else value), size
    if isinstance(value, list | tuple):
        items = [_seal_value(item) for item in value]
        changed = any(new is not old for (new, _), old in zip(items, value, strict=True))
        size = sum(nbytes for _, nbytes in items) + 8 * len(value)
        if not changed:
            return value, size
        make = getattr(type(value), "_make", type(value))  # a named tuple takes no iterable
        return make(new for new, _ in items), size
    return value, 8


def sealed_array(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A read-only array that can't be written any more: the array itself, or a copy of a borrowed one."""
    base: Any = array.base
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            array = array.copy()
            break
        base = base.base
    else:
        if base is not None and not _is_readonly(base):
            array = array.copy()
    array.flags.writeable = False
    return array


def _is_readonly(memory: Any) -> bool:
    """Whether the object that owns an array's memory is known not to write it."""
    try:
        return memoryview(memory).readonly
    except TypeError:  # a tensor, for one, gives no answer
        return False
