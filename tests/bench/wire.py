"""What a frame costs: a small typed message, and a chunk of experience, encoded and decoded."""

import pickle
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import msgpack
from numpy.typing import NDArray

from actorq.actors.header import LetterHeader
from actorq.actors.message import Message
from actorq.actors.registry import Registry
from actorq.actors.wire import decode, encode


class Add(Message):
    amount: int


class Insert(Message):
    frames: NDArray[np.uint8]
    index: NDArray[np.int32]
    next_index: NDArray[np.int32]
    actions: NDArray[np.int64]
    returns: NDArray[np.float32]
    discounts: NDArray[np.float32]
    priorities: NDArray[np.float32]


HEADER = LetterHeader("explorer.0", "replay", 7)
REGISTRY = Registry(Add, Insert)


def chunk(transitions: int = 64) -> Insert:
    """452 KB: one 84×84 frame a transition."""
    rows = np.arange(transitions, dtype=np.int32)[:, None]
    floats = np.ones(transitions, np.float32)
    return Insert(
        frames=np.random.default_rng(0).integers(0, 255, (transitions, 84, 84), np.uint8),
        index=rows,
        next_index=rows,
        actions=np.zeros(transitions, np.int64),
        returns=floats,
        discounts=floats,
        priorities=floats,
    )


def bare(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """The least that could be done: one header, the raw bytes behind it, nothing checked, nothing aligned."""
    head = msgpack.encode([(array.dtype.str, array.shape) for array in arrays])
    frame = b"".join([head, *[array.data for array in arrays]])
    views = []
    start = len(head)
    for dtype, shape in msgpack.decode(head):
        view = np.ndarray(shape, dtype, frame, start)
        views.append(view)
        start += view.nbytes
    return views


def microseconds(function: Callable[[], Any], number: int) -> float:
    return min(timeit.repeat(function, number=number, repeat=9)) / number * 1e6


def tell(name: str, message: Message, number: int) -> None:
    frame = encode(HEADER, message, REGISTRY)
    encoding = microseconds(lambda: encode(HEADER, message, REGISTRY), number)
    decoding = microseconds(lambda: decode(frame, REGISTRY), number)
    pickled = microseconds(lambda: pickle.loads(pickle.dumps((HEADER, message), 5)), number)
    print(f"{name}: encode {encoding:.1f} µs, decode {decoding:.1f} µs; pickle, both ways {pickled:.1f} µs")


def main() -> None:
    small, large = Add(amount=3), chunk()
    arrays = [getattr(large, name) for name in large.__struct_fields__]
    size = sum(array.nbytes for array in arrays)
    tell("small message", small, 5000)
    tell("chunk", large, 300)
    both = microseconds(lambda: decode(encode(HEADER, large, REGISTRY), REGISTRY), 300)
    floor = microseconds(lambda: bare(arrays), 300)
    print(f"chunk of {size / 1e3:.0f} KB there and back: {both:.1f} µs, {size / both:.0f} MB/s")
    print(f"bare header and raw frames: {floor:.1f} µs; ratio of the time {both / floor:.2f}")


if __name__ == "__main__":
    main()
