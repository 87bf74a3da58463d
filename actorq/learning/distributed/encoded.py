"""Encoded vectors: gradients and differences of weights as they are sent, in one of five codecs. Free of
torch.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

Codec = Literal["whole", "float16", "bfloat16", "int8", "top_k"]
CODECS: tuple[Codec, ...] = get_args(Codec)

INT8_BLOCK = 256
"""Numbers that share a scale in `int8`; the last block may be shorter."""


class Encoded(msgspec.Struct, frozen=True):
    """An encoded vector. One received from a peer must be validated by `check`."""

    codec: str
    size: int
    """Number of decoded numbers."""
    values: NDArray[Any]
    """[size]; `bfloat16`: its bits as uint16; `top_k`: [k], the numbers sent."""
    extra: NDArray[Any] | None = None
    """`int8`: a float32 scale for each block; `top_k`: the k indices, uint32, ascending."""

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return int(self.values.nbytes + (0 if self.extra is None else self.extra.nbytes))


def top_k_count(size: int, share: float) -> int:
    """Numbers that `top_k` sends of `size`: the nearest integer to `share` of them, and at least one."""
    return min(size, max(1, round(share * size)))


def int8_blocks(size: int) -> int:
    """Number of scales of `int8`."""
    return -(-size // INT8_BLOCK)


def check(encoded: Encoded, size: int, dtype: DTypeLike) -> None:
    """Raise ValueError unless this decodes to `size` numbers of `dtype`, float32 or float64.

    Only the arrays themselves are trusted, no claimed size. The values may be NaN or infinite; the scales of
    `int8` may not.
    """
    if encoded.size != size:
        raise ValueError(f"it decodes to {encoded.size} numbers instead of {size}")
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
    """Return the array, if it is [size] of this dtype and contiguous; else ValueError."""
    dtype = np.dtype(dtype)
    if array is None:
        raise ValueError(f"the {what} are missing: [{size}] {dtype}")
    if array.shape != (size,) or array.dtype != dtype:
        raise ValueError(f"the {what} must be [{size}] {dtype}, not {list(array.shape)} {array.dtype}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"the {what} must be contiguous and aligned")
    return array


def unknown_codec(codec: str) -> str:
    """Error text for an unknown codec."""
    return f"there is no codec {codec[:20]!r}, only {', '.join(CODECS)}"


def _check_values(encoded: Encoded, dtype: DTypeLike) -> None:
    require(encoded.values, "values", dtype, encoded.size)
    if encoded.extra is not None:
        raise ValueError(f"{encoded.codec} has a second array, which it doesn't use")


def _check_int8(encoded: Encoded) -> None:
    require(encoded.values, "values", np.int8, encoded.size)
    scales = require(encoded.extra, "scales", np.float32, int8_blocks(encoded.size))
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise ValueError("int8 has a scale that is negative or not finite: the encoded vector was not finite")


def _check_top_k(encoded: Encoded) -> None:
    count = encoded.values.size
    require(encoded.values, "values", np.float32, count)
    indices = require(encoded.extra, "indices", np.uint32, count)
    if (indices[1:] <= indices[:-1]).any():
        raise ValueError("top_k has indices that are repeated or not ascending")
    if count and indices[-1] >= encoded.size:
        raise ValueError(f"top_k has index {indices[-1]}; there are {encoded.size} numbers")
