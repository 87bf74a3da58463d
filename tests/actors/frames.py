"""Messages for the tests of frames, and what it means that one came back equal."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from actorq.actors.header import LetterHeader
from actorq.actors.message import Message, Request
from actorq.actors.registry import Registry

Array = NDArray[Any]


class Inner(msgspec.Struct, frozen=True):
    name: str
    data: Array


class Everything(Message):
    number: int
    ratio: float
    flag: bool
    text: str
    blob: bytes
    array: Array
    maybe: Array | None
    inner: Inner
    inners: list[Inner]
    named: dict[str, Array]
    pair: tuple[int, Array]
    anything: Any


class Add(Message):
    amount: int


class Total(Message):
    value: float


class GetTotal(Request[Total]):
    pass


class Floats(Message):
    data: NDArray[np.float32]


class Picky(Message):
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise KeyError("an error of the user's own")


HEADER = LetterHeader("explorer.0", "replay", 7, 88, True, ("learner", "replay"))
REGISTRY = Registry(Everything, Add, GetTotal, Floats, Picky)


def same(left: Any, right: Any) -> bool:
    """Equal in type and, for arrays, in dtype, shape and bytes (so that NaN equals itself)."""
    if isinstance(left, np.ndarray):
        return (
            isinstance(right, np.ndarray)
            and left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    if type(left) is not type(right):
        return False
    if isinstance(left, msgspec.Struct):
        return same(msgspec.structs.asdict(left), msgspec.structs.asdict(right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right) or (left != left and right != right)


def everything() -> Everything:
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    inner = Inner("inner", np.array([True, False]))
    return Everything(
        number=3,
        ratio=0.5,
        flag=True,
        text="text",
        blob=b"blob",
        array=data,
        maybe=None,
        inner=inner,
        inners=[inner, inner],
        named={"weights": np.arange(5, dtype=">i2"), "none": np.zeros((0, 4))},
        pair=(1, np.array(2 + 1j)),
        anything={"state": [np.arange(3, dtype=np.uint64), None, {"deep": 1.5}]},
    )


def measured(function: Callable[[], Any]) -> tuple[Any, int]:
    """Its result, and the bytes that it took at most."""
    function()  # caches
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
