"""One letter or answer as a frame of bytes, and back. Nothing is pickled; only registered types are decoded.

A frame is a prefix (what it is, and the length of the header), a msgpack header (letter or answer, the
payload's type, the array table, the payload with references in place of its arrays), and the arrays' bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from msgspec import msgpack
from numpy.typing import NDArray

from .arrays import Table, check_dtype, describe, lay_out, views
from .header import Header, LetterHeader
from .message import Message
from .registry import Registry, WireError

MAX_HEADER_BYTES = 16 * 2**20
"""What is not in arrays: its objects may take many times the memory of their bytes."""

Allowed = Callable[[Header, str], bool]
"""Whether a peer may send a payload of this type name under this header."""

_PREFIX = struct.Struct("<4sI")
_MAGIC = b"aqw1"
_ARRAY = 1  # msgpack extension: the number of an array in the table


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    header: Header
    type: str
    table: Table
    payload: msgspec.Raw
    """Walked over, not decoded: its nesting, and every count in it, are known to be true afterwards."""


_open = msgpack.Decoder(_Envelope).decode


def encode(header: Header, payload: Message | None, registry: Registry) -> bytes:
    """The frame of a message, or of an answer with its reply, if there is one.

    Each array is copied once, into the frame; one that is not C-ordered is first put in order. Raises
    WireError for a type that is not registered and for values that can't travel.
    """
    name = registry.name_of(payload)
    arrays: list[NDArray[Any]] = []

    def stand_in(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return _reference(len(arrays) - 1)
        if isinstance(value, np.floating):
            return float(value)
        if isinstance(value, np.integer | np.bool_ | np.str_ | np.bytes_):
            return value.item()
        raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} can't travel")

    try:
        body = msgspec.Raw(msgpack.encode(payload, enc_hook=stand_in))
        table = tuple([describe(array) for array in arrays])
        head = msgpack.encode(_Envelope(header, name, table, body))
    except WireError as error:
        raise WireError(f"{name}: {error}", header) from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(f"{name} can't be encoded: {error}", header) from error
    if len(head) > MAX_HEADER_BYTES:
        raise WireError(
            f"{name} takes {len(head)} bytes besides its arrays, at most {MAX_HEADER_BYTES} are allowed: "
            "send large data as arrays",
            header,
        )
    prefix = _PREFIX.pack(_MAGIC, len(head))
    return b"".join([prefix, head, *lay_out(arrays, len(prefix) + len(head))])


def decode(
    frame: bytes | bytearray | memoryview, registry: Registry, *, allowed: Allowed | None = None
) -> tuple[Header, Message | None]:
    """The header and the payload of a frame, which must not be written any more.

    Arrays are read-only views that keep the frame's memory alive; only where that is not aligned for an
    array's dtype, this one is copied. `allowed` is asked before anything of the payload is decoded. Raises
    WireError, and nothing else, for whatever is wrong with a frame, before memory is taken for it.
    """
    memory = memoryview(frame).cast("B").toreadonly()
    envelope, start = _read_header(memory)
    header, name = envelope.header, envelope.type
    try:
        if allowed is not None and not allowed(header, name):
            raise WireError(f"{_about(header)} may not carry {name[:200]!r}")
        kind = registry.type_of(name)
        if isinstance(header, LetterHeader) and not issubclass(kind, Message):
            raise WireError(f"{_about(header)} carries {name or 'nothing'!r}, which is not a message")
        # An array made from a memoryview forgets it; made from an array it holds the memory in its place.
        arrays = views(envelope.table, np.frombuffer(memory, np.uint8), start)
        return header, _decode_payload(kind, envelope.payload, arrays)
    except WireError as error:
        error.header = header
        raise


def _read_header(frame: memoryview) -> tuple[_Envelope, int]:
    """The header, and where it ends."""
    if len(frame) < _PREFIX.size:
        raise WireError(f"a frame of {len(frame)} bytes is cut short")
    magic, length = _PREFIX.unpack_from(frame)
    end = _PREFIX.size + length
    if magic != _MAGIC:
        raise WireError(f"a frame begins with {magic!r}, not {_MAGIC!r}: not from this version of actorq")
    if length > MAX_HEADER_BYTES or end > len(frame):
        raise WireError(f"a frame of {len(frame)} bytes claims a header of {length}")
    try:
        return _open(frame[_PREFIX.size : end]), end
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"a frame's header can't be read: {error}") from error


def _decode_payload(kind: type[Any], payload: msgspec.Raw, arrays: list[NDArray[Any]]) -> Any:
    def array(code: int, number: memoryview) -> NDArray[Any]:
        index = int.from_bytes(number, "little")
        if code != _ARRAY or index >= len(arrays):
            raise ValueError(f"no array {index} in a table of {len(arrays)}")
        return arrays[index]

    try:
        return msgpack.decode(payload, type=kind, ext_hook=array, dec_hook=check_dtype)
    except Exception as error:  # a type's own __post_init__ may raise anything
        raise WireError(f"{kind.__qualname__} can't be decoded: {error}") from error


@lru_cache(maxsize=256)
def _reference(index: int) -> msgpack.Ext:
    return msgpack.Ext(_ARRAY, index.to_bytes(4, "little"))


def _about(header: Header) -> str:
    if isinstance(header, LetterHeader):
        return f"a letter from {header.sender[:200]!r} to {header.target[:200]!r}"
    return f"the answer to request {header.request}"
