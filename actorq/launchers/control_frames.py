"""Frames of the control stream: encoding and decoding of one message.

A frame is a prefix (magic number and two lengths), a head in msgpack (the table of arrays, and the message
with references in their places), and the arrays' bytes one after the other.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec
import numpy as np
from msgspec import msgpack
from numpy.typing import NDArray

from actorq.actors import ActorqError
from actorq.actors.wire import state_codec
from actorq.actors.wire.arrays import Row, describe, dtype_of
from actorq.actors.wire.state_codec import StateEncodingError, StateValue

_PREFIX = struct.Struct("<4sIQ")
PREFIX_BYTES = _PREFIX.size

_MAGIC = b"aqc2"
_MAX_HEAD = 2**32 - 1
_ARRAY = 1
"""msgpack extension: index of an array in the table."""


class FrameError(ActorqError, ValueError):
    """A message that can't be encoded, or bytes that are not a valid frame."""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    table: tuple[Row, ...]
    message: msgspec.Raw


_open_head = msgpack.Decoder(_Head).decode


def encode(message: msgspec.Struct, max_bytes: int) -> list[bytes | memoryview]:
    """Encode a tagged Struct as the parts of a frame; arrays are not copied.

    Raises StateEncodingError naming the place of a `StateValue` that can't be sent; FrameError for other
    values, and for more bytes than allowed.
    """
    arrays: list[NDArray[Any]] = []

    def encode_other(value: Any) -> Any:
        if isinstance(value, StateValue):
            return state_codec.encode(value.value)
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return msgpack.Ext(_ARRAY, (len(arrays) - 1).to_bytes(4, "little"))
        raise TypeError(f"a {type(value).__qualname__} can't be sent")

    try:
        body = msgpack.encode(message, enc_hook=encode_other)
        head = msgpack.encode(_Head(tuple(map(describe, arrays)), msgspec.Raw(body)))
    except StateEncodingError:
        raise
    except Exception as error:
        raise FrameError(f"{type(message).__qualname__} can't be encoded: {error}") from error
    in_arrays = sum(array.nbytes for array in arrays)
    if len(head) > _MAX_HEAD or len(head) + in_arrays > max_bytes:
        name, size = type(message).__qualname__, len(head) + in_arrays
        raise FrameError(f"{name} takes {size} bytes, at most {max_bytes} may be sent")
    return [_PREFIX.pack(_MAGIC, len(head), in_arrays) + head, *(memory(a) for a in arrays if a.nbytes)]


def lengths(prefix: bytes | bytearray, max_bytes: int) -> tuple[int, int]:
    """Lengths of the head and of all arrays together, in bytes. Raises FrameError for more than allowed."""
    magic, head, in_arrays = _PREFIX.unpack(prefix)
    if magic != _MAGIC:
        raise FrameError(f"a frame begins with {magic!r}, not {_MAGIC!r}")
    if head + in_arrays > max_bytes:
        raise FrameError(f"a frame claims {head + in_arrays} bytes, at most {max_bytes} are allowed")
    return head, in_arrays


def memory(array: NDArray[Any]) -> memoryview:
    """The memory of a non-empty C-ordered array."""
    return array.reshape(-1).view(np.uint8).data


class Decoder:
    """Decodes frames of messages of one type, which may be a union of tagged Structs."""

    def __init__(self, incoming: Any) -> None:
        self._message = msgspec.Raw()
        self._arrays: list[NDArray[Any]] = []
        self._decode = msgpack.Decoder(incoming, ext_hook=self._array, dec_hook=_decode_other).decode

    def open(self, head: bytes | bytearray, in_arrays: int) -> list[NDArray[Any]]:
        """Allocate the frame's arrays, to be filled in this order before `message` is called. Raises
        FrameError.
        """
        try:
            opened = _open_head(head)
            kinds = [(dtype_of(row), row.shape) for row in opened.table]
            claimed = sum(dtype.itemsize * math.prod(shape) for dtype, shape in kinds)
            if claimed != in_arrays:
                raise FrameError(f"its table lists {claimed} bytes in arrays, its prefix {in_arrays}")
            self._message = opened.message
            self._arrays = [np.empty(shape, dtype) for dtype, shape in kinds]
        except Exception as error:
            raise FrameError(f"a frame's head can't be read: {error}") from error
        return self._arrays

    def message(self) -> Any:
        """Decode the message of the frame that was opened last. Raises FrameError."""
        try:
            return self._decode(self._message)
        except Exception as error:  # a message's own __post_init__ may raise anything
            raise FrameError(f"a frame's message can't be read: {error}") from error
        finally:
            self._message, self._arrays = msgspec.Raw(), []

    def _array(self, code: int, content: memoryview) -> Any:
        if code != _ARRAY:
            raise ValueError(f"unknown extension {code}")
        return self._arrays[int.from_bytes(content, "little")]


def _decode_other(kind: type, encoded: Any) -> Any:
    if kind is StateValue:
        value, arrays = encoded
        return StateValue(state_codec.decode(value, arrays))
    return encoded
