"""One message of a control stream as a frame of bytes, and back, exactly: tuples stay tuples.

A frame is a prefix (what it is, and two lengths), a head in msgpack (the table of arrays, and the message
with references in their places), and the arrays' bytes one after the other.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import inspect, msgpack
from numpy.typing import NDArray

from actorq.actors import ActorqError

_PREFIX = struct.Struct("<4sIQ")
PREFIX_BYTES = _PREFIX.size

_MAGIC = b"aqc1"
_MAX_HEAD = 2**32 - 1
_ARRAY, _TUPLE, _INTEGER = 1, 2, 3
"""Extensions of msgpack: a number in the table, the items in msgpack, two's complement."""
_DTYPE = re.compile(r"[<>|][a-zA-Z]\d{1,10}(\[\d{0,10}[a-zA-Z]{1,8}\])?")
_KEPT = "arrays, numbers, text, bytes, booleans, None, lists, tuples and dicts"


class FrameError(ActorqError, ValueError):
    """A message that has no frame, or bytes that are none."""


class _Row(msgspec.Struct, frozen=True, array_like=True):
    dtype: str
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(max_length=64)]


class _Head(msgspec.Struct, frozen=True, array_like=True):
    table: tuple[_Row, ...]
    message: msgspec.Raw


_open_head = msgpack.Decoder(_Head).decode


def encode(message: msgspec.Struct, max_bytes: int) -> list[bytes | memoryview]:
    """The frame of a tagged Struct, in parts: the arrays' are their own memory, not copied.

    Where a field's type says `Any`, it may hold what a state is made of. Raises FrameError naming the field.
    """
    arrays: list[NDArray[Any]] = []
    try:
        body = msgpack.encode(_exact(message, arrays))
        head = msgpack.encode(_Head(tuple(_row(array) for array in arrays), msgspec.Raw(body)))
    except FrameError:
        raise
    except Exception as error:
        raise FrameError(f"{type(message).__qualname__} can't be encoded: {error}") from error
    in_arrays = sum(array.nbytes for array in arrays)
    if len(head) > _MAX_HEAD or len(head) + in_arrays > max_bytes:
        name, size = type(message).__qualname__, len(head) + in_arrays
        raise FrameError(f"{name} takes {size} bytes, at most {max_bytes} may be sent")
    return [_PREFIX.pack(_MAGIC, len(head), in_arrays) + head, *(memory(a) for a in arrays if a.nbytes)]


def lengths(prefix: bytes | bytearray, max_bytes: int) -> tuple[int, int]:
    """The bytes of the head, and of all arrays together. Raises FrameError for more than allowed."""
    magic, head, in_arrays = _PREFIX.unpack(prefix)
    if magic != _MAGIC:
        raise FrameError(f"a frame begins with {magic!r}, not {_MAGIC!r}")
    if head + in_arrays > max_bytes:
        raise FrameError(f"a frame claims {head + in_arrays} bytes, at most {max_bytes} are allowed")
    return head, in_arrays


def memory(array: NDArray[Any]) -> memoryview:
    """The bytes of a C-ordered array that has some."""
    return array.reshape(-1).view(np.uint8).data


class Decoder:
    """Reads frames of messages of one type, which may be a union of tagged Structs."""

    def __init__(self, incoming: Any) -> None:
        self._message = msgspec.Raw()
        self._arrays: list[NDArray[Any]] = []
        self._typed = msgpack.Decoder(incoming, ext_hook=self._extension).decode
        self._items = msgpack.Decoder(list, ext_hook=self._extension).decode

    def open(self, head: bytes | bytearray, in_arrays: int) -> list[NDArray[Any]]:
        """The frame's arrays, to be filled in this order before `message`. Raises FrameError."""
        try:
            opened = _open_head(head)
            kinds = [(_dtype(row.dtype), row.shape) for row in opened.table]
            claimed = sum(dtype.itemsize * math.prod(shape) for dtype, shape in kinds)
            if claimed != in_arrays:
                raise FrameError(f"its table speaks of {claimed} bytes in arrays, its prefix of {in_arrays}")
            self._message = opened.message
            self._arrays = [np.empty(shape, dtype) for dtype, shape in kinds]
        except Exception as error:
            raise FrameError(f"a frame's head can't be read: {error}") from error
        return self._arrays

    def message(self) -> Any:
        """The message of the frame that was opened last. Raises FrameError."""
        try:
            return self._typed(self._message)
        except Exception as error:  # a message's own __post_init__ may raise anything
            raise FrameError(f"a frame's message can't be read: {error}") from error
        finally:
            self._message, self._arrays = msgspec.Raw(), []

    def _extension(self, code: int, content: memoryview) -> Any:
        if code == _ARRAY:
            return self._arrays[int.from_bytes(content, "little")]
        if code == _TUPLE:
            return tuple(self._items(content))
        if code == _INTEGER:
            return int.from_bytes(content, "little", signed=True)
        raise ValueError(f"unknown extension {code}")


def _row(array: NDArray[Any]) -> _Row:
    return _Row(array.dtype.str, array.shape)


def _dtype(text: str) -> np.dtype[Any]:
    """Raises ValueError or TypeError for what isn't a dtype of plain bytes."""
    if not _DTYPE.fullmatch(text):
        raise ValueError(f"{text[:100]!r} is not a dtype")
    dtype = np.dtype(text)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"no array of dtype {text!r} can be sent")
    return dtype


# What a type calls Any is put so that msgpack tells it exactly, before msgspec encodes the rest.


def _exact(message: msgspec.Struct, arrays: list[NDArray[Any]]) -> msgspec.Struct:
    said = {
        name: _exact_within(kind, getattr(message, name), name, arrays)
        for name, kind in _loose_fields(type(message))
    }
    return msgspec.structs.replace(message, **said) if said else message


@cache
def _loose_fields(cls: type[msgspec.Struct]) -> tuple[tuple[str, inspect.Type], ...]:
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    return tuple((field.name, field.type) for field in kind.fields if _is_loose(field.type))


def _is_loose(kind: inspect.Type) -> bool:
    """Whether values of this type may hold something of type Any."""
    match kind:
        case inspect.AnyType() | inspect.CustomType() | inspect.StructType():
            return True
        case inspect.DictType():
            return _is_loose(kind.value_type)
        case inspect.ListType() | inspect.VarTupleType():
            return _is_loose(kind.item_type)
        case inspect.TupleType():
            return any(_is_loose(item) for item in kind.item_types)
        case inspect.UnionType():
            return any(_is_loose(member) for member in kind.types)
    return False


def _exact_within(kind: inspect.Type, value: Any, where: str, arrays: list[NDArray[Any]]) -> Any:
    """`value`, whose type is `kind`, with all that is of type Any inside it put exactly."""
    match kind, value:
        case inspect.AnyType() | inspect.CustomType(), _:
            return _say(value, where, arrays)
        case _, msgspec.Struct():
            return _exact(value, arrays)
        case inspect.DictType(), Mapping():
            of = kind.value_type
            return {key: _exact_within(of, item, f"{where}/{key}", arrays) for key, item in value.items()}
        case inspect.ListType() | inspect.VarTupleType(), list() | tuple():
            of = kind.item_type
            return [_exact_within(of, item, f"{where}/{i}", arrays) for i, item in enumerate(value)]
        case inspect.TupleType(), tuple():
            items = enumerate(zip(kind.item_types, value, strict=True))
            return [_exact_within(of, item, f"{where}/{i}", arrays) for i, (of, item) in items]
        case inspect.UnionType(), _ if value is not None:
            return _exact_within(next(filter(_is_loose, kind.types)), value, where, arrays)
    return value


def _say(value: Any, where: str, arrays: list[NDArray[Any]]) -> Any:
    match value:
        case None | bool():
            return value
        case np.ndarray():
            return _say_array(value, where, arrays)
        case np.generic():
            return _say(_as_python(value, where), where, arrays)
        case str():
            return str(value)
        case int():
            return int(value) if -(2**63) <= value < 2**64 else _say_integer(value)
        case float():
            return float(value)
        case bytes() | bytearray():
            return bytes(value)
        case list():
            return _say_items(value, where, arrays)
        case tuple():
            return msgpack.Ext(_TUPLE, msgpack.encode(_say_items(value, where, arrays)))
        case Mapping():
            return _say_dict(value, where, arrays)
    raise FrameError(f"{where} is a {type(value).__qualname__}; what can be sent are {_KEPT}")


def _say_items(items: Sequence[Any], where: str, arrays: list[NDArray[Any]]) -> list[Any]:
    return [_say(item, f"{where}/{index}", arrays) for index, item in enumerate(items)]


def _say_dict(table: Mapping[Any, Any], where: str, arrays: list[NDArray[Any]]) -> dict[str, Any]:
    for key in table:
        if not isinstance(key, str):
            raise FrameError(f"{where} has the key {key!r}; keys are text")
    return {str(key): _say(item, f"{where}/{key}", arrays) for key, item in table.items()}


def _say_integer(value: int) -> msgpack.Ext:
    return msgpack.Ext(_INTEGER, int(value).to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _say_array(array: NDArray[Any], where: str, arrays: list[NDArray[Any]]) -> msgpack.Ext:
    dtype = array.dtype
    if dtype.hasobject or not dtype.itemsize or np.dtype(dtype.str) != dtype:
        raise FrameError(f"{where} is an array of dtype {dtype}; numbers can be sent")
    arrays.append(np.asarray(array, order="C"))
    return msgpack.Ext(_ARRAY, (len(arrays) - 1).to_bytes(4, "little"))


def _as_python(value: np.generic, where: str) -> Any:
    plain = value.item()
    if isinstance(plain, np.generic) or not isinstance(plain, bool | int | float | str | bytes):
        raise FrameError(f"{where} is a numpy.{value.dtype}; an array of it could be sent")
    return plain
