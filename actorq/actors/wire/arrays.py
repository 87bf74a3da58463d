"""Arrays in a frame: a table of dtypes and shapes, and the arrays' bytes, each aligned to 64 bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
import numpy as np
from numpy.typing import NDArray

from actorq.actors.definition import members

from .registry import WireError

ALIGNMENT = 64
"""Size of a cache line; also more than any dtype needs."""

MAX_ARRAYS = 65_536
MAX_DIMENSIONS = 64
_MAX_BYTES = 2**63 - 1

Borrow = Callable[[int, int], Any]
"""Returns a block of shared memory, read-only, by its offset and its length in bytes. Raises OSError or
ValueError.
"""

_KINDS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
_DTYPES = {dtype.str: dtype for kind in _KINDS for dtype in (np.dtype("<" + kind), np.dtype(">" + kind))}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_PLAIN = (np.ndarray, np.memmap)
_ALIASES: dict[Any, Any] = {np.longlong: np.int64, np.ulonglong: np.uint64}


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One array of the table.

    Its position follows from the rows before it, so that no two arrays can overlap; or its data are in a
    block of shared memory.
    """

    dtype: str
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(max_length=MAX_DIMENSIONS)]
    block: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The block's offset in the sender's shared memory."""


Table = Annotated[list[Row], msgspec.Meta(max_length=MAX_ARRAYS)]


def aligned(offset: int) -> int:
    """The smallest multiple of ALIGNMENT that is not below `length`."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def describe(array: NDArray[Any]) -> Row:
    """The array's row in the table. Raises WireError if its type or dtype can't be encoded."""
    code = _CODES.get(array.dtype)
    if code is None:
        raise WireError(
            f"an array of dtype {array.dtype} can't be serialized: only booleans, integers, floating and "
            "complex numbers of standard sizes can (view dates as int64, send the fields of records one by "
            "one)"
        )
    if type(array) not in _PLAIN:
        raise WireError(f"a {type(array).__name__} can't be serialized: send plain arrays")
    return Row(code, array.shape)


def dtype_of(row: Row) -> np.dtype[Any]:
    """Raises WireError for a dtype that can't be serialized."""
    dtype = _DTYPES.get(row.dtype)
    if dtype is None:
        raise WireError(f"the array table has an unknown dtype {row.dtype[:20]!r}")
    return dtype


def lay_out(arrays: Iterable[NDArray[Any]], start: int) -> Iterator[bytes | memoryview]:
    """Yield padding and C-ordered arrays alternately, to be written from offset `start`."""
    for array in arrays:
        offset = aligned(start)
        yield bytes(offset - start)
        yield (array if array.flags.c_contiguous else np.ascontiguousarray(array)).data
        start = offset + array.nbytes


def views(
    table: list[Row], frame: NDArray[np.uint8], start: int, borrow: Borrow | None = None
) -> list[NDArray[Any]]:
    """The table's arrays as read-only views of the frame; copied only if the frame's memory is not aligned
    for the dtype.

    `borrow` returns the memory of arrays in shared blocks. Raises WireError unless the other arrays fill the
    frame exactly.
    """
    arrays = []
    for row in table:
        dtype = dtype_of(row)
        if row.block is not None:
            arrays.append(_borrowed(row, dtype, borrow))
            continue
        offset = aligned(start)
        start = offset + dtype.itemsize * math.prod(row.shape)
        if start > len(frame):
            raise WireError(f"an array of {start - offset} bytes at {offset} exceeds a frame of {len(frame)}")
        # An array without elements can claim dimensions of any size.
        if start == offset and dtype.itemsize * math.prod(n for n in row.shape if n) > _MAX_BYTES:
            raise WireError(f"an empty array has the impossible shape {row.shape}")
        array = np.ndarray(row.shape, dtype, frame, offset)
        if not array.flags.aligned:
            array = array.copy()
            array.flags.writeable = False
        arrays.append(array)
    if start != len(frame):
        raise WireError(f"the frame has {len(frame)} bytes, its header says {start}")
    return arrays


def _borrowed(row: Row, dtype: np.dtype[Any], borrow: Borrow | None) -> NDArray[Any]:
    nbytes = dtype.itemsize * math.prod(row.shape)
    if borrow is None or row.block is None or nbytes == 0:
        raise WireError("the array table names a block of memory, but none is shared")
    try:
        memory = borrow(row.block, nbytes)
    except (OSError, ValueError) as error:
        raise WireError(f"a block of {nbytes} bytes at {row.block} can't be read: {error}") from error
    return np.ndarray(row.shape, dtype, memory)


def check_dtype(annotation: Any, array: Any) -> Any:
    """Return the array if it has a dtype that its field's annotation allows; otherwise ValueError."""
    if isinstance(array, np.ndarray) and not issubclass(array.dtype.type, _scalar_types(annotation)):
        names = " or ".join(scalar.__name__ for scalar in _scalar_types(annotation))
        raise ValueError(f"Expected an array of {names}, got {array.dtype}")
    return array  # msgspec refuses anything that is not an array


@cache
def _scalar_types(annotation: Any) -> tuple[type[np.generic], ...]:
    """`NDArray[np.float32]` -> (np.float32,); (np.generic,), the base of all, for an annotation without a
    dtype.
    """
    dtype = get_args(annotation)[1:] or (Any,)
    (scalar,) = get_args(dtype[0]) or (Any,)
    if isinstance(scalar, TypeVar):
        scalar = scalar.__bound__
    origins = [get_origin(member) or member for member in members(scalar)]
    types = tuple(_ALIASES.get(reply_to, reply_to) for reply_to in origins)
    known = all(isinstance(kind, type) and issubclass(kind, np.generic) for kind in types)
    return types if known else (np.generic,)
