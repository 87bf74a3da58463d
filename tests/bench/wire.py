"""Cost of encoding and decoding frames: small typed messages, many to a frame, and a chunk of experience."""

import pickle
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import msgpack
from numpy.typing import NDArray

from actorq.actors.message import Message
from actorq.actors.runtime.envelope import Envelope
from actorq.actors.wire.codec import Packer, Unpacker
from actorq.actors.wire.route_table import Route, RouteTable


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


CONTRACT = RouteTable([Route("explorer", "replay", Add), Route("explorer", "replay", Insert)])
PACKER, UNPACKER = Packer(), Unpacker()


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


def envelope(message: Message) -> Envelope:
    nobody: Any = None
    return Envelope(message, 72, "explorer", "replay", nobody, ())


def encoded(envelopes: list[Envelope]) -> memoryview:
    return memoryview(b"".join(PACKER.envelopes(CONTRACT, 1, envelopes)))


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


def tell(name: str, messages: list[Message], number: int) -> None:
    envelopes = [envelope(message) for message in messages]
    frame, count = encoded(envelopes), len(messages)
    encoding = microseconds(lambda: encoded(envelopes), number) / count
    decoding = microseconds(lambda: UNPACKER.envelopes(CONTRACT, frame), number) / count
    pickled = microseconds(lambda: pickle.loads(pickle.dumps(messages, 5)), number) / count
    print(
        f"{name}, each: encode {encoding:.2f} µs, decode {decoding:.2f} µs; pickle both ways {pickled:.2f} µs"
    )


def main() -> None:
    large = chunk()
    arrays = [getattr(large, name) for name in large.__struct_fields__]
    size = sum(array.nbytes for array in arrays)
    tell("one small message", [Add(amount=3)], 5000)
    tell("a hundred in one frame", [Add(amount=number) for number in range(100)], 300)
    tell("a chunk", [large], 300)
    envelopes = [envelope(large)]
    both = microseconds(lambda: UNPACKER.envelopes(CONTRACT, encoded(envelopes)), 300)
    floor = microseconds(lambda: bare(arrays), 300)
    print(f"chunk of {size / 1e3:.0f} KB there and back: {both:.1f} µs, {size / both:.0f} MB/s")
    print(f"bare header and raw frames: {floor:.1f} µs; ratio of the time {both / floor:.2f}")


if __name__ == "__main__":
    main()
