"""Codec of actors' states: nested values in JSON's types with named arrays, without loss."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actorq.actors.errors import ActorqError

Arrays = dict[str, NDArray[Any]]

_NATIVE = frozenset({"bool", "float16", "float32", "float64"}) | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
"""Dtypes of every version of safetensors. Others are kept as bytes beside their dtype's text."""
_DTYPE = re.compile(r"[<>|][a-zA-Z]\d{1,10}(\[\d{0,10}[a-zA-Z]{1,8}\])?")
_PLAIN_INT = 2**53
"""Other readers of JSON keep integers exactly up to here; larger ones are written in hexadecimal."""


class StateEncodingError(ActorqError, ValueError):
    """A value that has no encoding; the text names its place."""


class StateValue:
    """A field's value of any type allowed in a state; control messages carry it without loss."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def encode(value: Any) -> tuple[Any, Arrays]:
    """Return `value` in JSON's types, and its arrays (C-contiguous) by name, each replaced by its name.

    Types that JSON lacks become an object with one key that begins with "$": $array, $bytes, $float, $int,
    $tuple and, for a dict with such keys, $dict. Numpy scalars become Python numbers. Contiguous arrays
    aren't copied. Raises StateEncodingError.
    """
    arrays: Arrays = {}
    return _encode(value, "", arrays), arrays


def decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The inverse of `encode`. Raises ValueError, KeyError or TypeError for anything else than its result."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, inner),) = value.items()
        if tag.startswith("$"):
            return _decode_tagged(tag, inner, arrays)
    return {key: decode(item, arrays) for key, item in value.items()}


def _encode(value: Any, where: str, arrays: Arrays) -> Any:
    match value:
        case None | bool():
            return value
        case str():
            return str(value)
        case np.ndarray():
            return {"$array": _encode_array(value, where, arrays)}
        case np.generic():
            return _encode(_as_python(value, where), where, arrays)
        case int():
            return int(value) if -_PLAIN_INT <= value <= _PLAIN_INT else {"$int": hex(value)}
        case float():
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        case bytes() | bytearray():
            return {"$bytes": _add(np.frombuffer(value, np.uint8), where, arrays)}
        case list():
            return _encode_items(value, where, arrays)
        case tuple():
            return {"$tuple": _encode_items(value, where, arrays)}
        case Mapping():
            return _encode_dict(value, where, arrays)
    raise StateEncodingError(
        f"{_place(where)} is a {type(value).__qualname__}; "
        "a state is made of arrays, numbers, text, bytes, booleans, None, lists, tuples and dicts"
    )


def _encode_items(items: Any, where: str, arrays: Arrays) -> list[Any]:
    return [_encode(item, f"{where}/{index}", arrays) for index, item in enumerate(items)]


def _encode_dict(table: Mapping[Any, Any], where: str, arrays: Arrays) -> Any:
    for key in table:
        if not isinstance(key, str):
            raise StateEncodingError(f"{_place(where)} has the key {key!r}; a state's keys are text")
    encoded = {str(key): _encode(item, f"{where}/{key}", arrays) for key, item in table.items()}
    return {"$dict": encoded} if any(key.startswith("$") for key in encoded) else encoded


def _as_python(value: np.generic, where: str) -> Any:
    plain = value.item()
    if isinstance(plain, np.generic) or not isinstance(plain, bool | int | float | str | bytes):
        raise StateEncodingError(f"{_place(where)} is a numpy.{value.dtype}; an array of it would be kept")
    return plain


def _encode_array(array: NDArray[Any], where: str, arrays: Arrays) -> Any:
    if array.dtype.hasobject or np.dtype(array.dtype.str) != array.dtype:
        raise StateEncodingError(f"{_place(where)} is an array of dtype {array.dtype}; numbers can be kept")
    dense = np.asarray(array, order="C")
    if dense.dtype.isnative and dense.dtype.name in _NATIVE:
        return _add(dense, where, arrays)
    name = _add(np.frombuffer(dense.tobytes(), np.uint8), where, arrays)
    return {"name": name, "dtype": dense.dtype.str, "shape": list(dense.shape)}


def _place(where: str) -> str:
    return where.lstrip("/") or "the whole"


def _add(array: NDArray[Any], where: str, arrays: Arrays) -> str:
    """Store the array under a unique name, and return the name."""
    name = where.lstrip("/").encode("ascii", "backslashreplace").decode("ascii")
    while name in arrays:  # "a/b" may be one key or two
        name += "'"
    arrays[name] = array
    return name


def _decode_tagged(tag: str, inner: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    match tag:
        case "$array" if isinstance(inner, str):
            return arrays[inner]
        case "$array":
            return np.ndarray(inner["shape"], _dtype(inner["dtype"]), bytearray(arrays[inner["name"]]))
        case "$int":
            return int(inner, 16)
        case "$float":
            return float(inner)
        case "$bytes":
            return arrays[inner].tobytes()
        case "$tuple":
            return tuple(decode(item, arrays) for item in inner)
        case "$dict":
            return {key: decode(item, arrays) for key, item in inner.items()}
    raise ValueError(f"unknown tag {tag}")


def _dtype(text: str) -> np.dtype[Any]:
    """Parse a dtype of plain bytes. Raises ValueError or TypeError for any other text."""
    if not _DTYPE.fullmatch(text):
        raise ValueError(f"{text[:100]!r} is not a dtype")
    dtype = np.dtype(text)
    if dtype.hasobject:
        raise ValueError(f"no array has dtype {text!r}")
    return dtype
