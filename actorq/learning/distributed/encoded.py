"""Vectors as they travel, gradients and differences of weights, in one of five codecs. Free of torch."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

Codec = Literal["whole", "float16", "bfloat16", "int8", "top_k"]
CODECS: tuple[Codec, ...] = get_args(Codec)

INT8_BLOCK = 256
"""How many numbers share a scale in `int8`; the last block may be shorter."""


class Encoded(msgspec.Struct, frozen=True):
    """A vector as a codec made it. What came from a peer proves nothing: `check` does."""

    codec: str
    size: int
    """How many numbers it decodes to."""
    values: NDArray[Any]
    """[size]; `bfloat16`: its bits as uint16; `top_k`: [k], those sent."""
    extra: NDArray[Any] | None = None
    """`int8`: a float32 scale for each block; `top_k`: the k indices, uint32, ascending."""

    @property
    def nbytes(self) -> int:
        """Exactly the bytes of its arrays."""
        return int(self.values.nbytes + (0 if self.extra is None else self.extra.nbytes))


def top_k_count(size: int, share: float) -> int:
    """How many of `size` numbers `top_k` sends: the nearest to `share` of them, and at least one."""
    return min(size, max(1, round(share * size)))


def int8_blocks(size: int) -> int:
    """How many scales `int8` sends."""
    return -(-size // INT8_BLOCK)


def check(encoded: Encoded, size: int, dtype: DTypeLike) -> None:
    """Raise ValueError unless this decodes to `size` numbers of `dtype`, float32 or float64.

    Only arrays that are there are believed, no number that claims how large one is. The values may be NaN or
    infinite; the scales of `int8` may not.
    """
    if encoded.size != size:
        raise ValueError(f"it decodes to {encoded.size} numbers, and {size} are wanted")
    match encoded.codec:
        case "whole":
            _check_values(encoded, dtype)
        case "float16":
            _check_values(encoded, np.float16)
        case "bfloat16":
            _check_values(encoded, np.uint16)
        case "int8":
            _check_int8(encoded)
        case "top_k":
            _check_top_k(encoded)
        case codec:
            raise ValueError(unknown_codec(codec))


def require(array: NDArray[Any] | None, what: str, dtype: DTypeLike, size: int) -> NDArray[Any]:
    """The array, if it is [size] of this dtype, in one piece; else ValueError."""
    dtype = np.dtype(dtype)
    if array is None:
        raise ValueError(f"the {what} are missing: [{size}] {dtype}")
    if array.shape != (size,) or array.dtype != dtype:
        raise ValueError(f"the {what} must be [{size}] {dtype}, not {list(array.shape)} {array.dtype}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"the {what} must be contiguous and aligned")
    return array


def unknown_codec(codec: str) -> str:
    """What to say of it."""
    return f"there is no codec {codec[:20]!r}, only {', '.join(CODECS)}"


def _check_values(encoded: Encoded, dtype: DTypeLike) -> None:
    require(encoded.values, "values", dtype, encoded.size)
    if encoded.extra is not None:
        raise ValueError(f"{encoded.codec} comes with a second array, for which it has no use")


def _check_int8(encoded: Encoded) -> None:
    require(encoded.values, "values", np.int8, encoded.size)
    scales = require(encoded.extra, "scales", np.float32, int8_blocks(encoded.size))
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise ValueError("int8 has a scale that is negative or not finite: what was encoded was not finite")


def _check_top_k(encoded: Encoded) -> None:
    count = encoded.values.size
    require(encoded.values, "values", np.float32, count)
    indices = require(encoded.extra, "indices", np.uint32, count)
    if (indices[1:] <= indices[:-1]).any():
        raise ValueError("top_k has indices that are repeated or not ascending")
    if count and indices[-1] >= encoded.size:
        raise ValueError(f"top_k has index {indices[-1]}; there are {encoded.size} numbers")
