"""Messages for the tests of frames, what they are sent by, and what it means that one came back equal."""

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from actorq.actors.message import Message, Request
from actorq.actors.runtime.envelope import Envelope, Outcome, RequestEnvelope
from actorq.actors.wire.codec import Answers, Packer, Parts, Reply, Unpacker
from actorq.actors.wire.route_table import Route, RouteTable

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


class Get(Request[Total | Floats | Everything | None]):
    name: str


class Picky(Message):
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise KeyError("an error of the user's own")


class Unknown(Message):
    """No way carries it."""


EVERYTHING, ADD, GET_TOTAL, FLOATS, GET, PICKY, ADD_BY_OTHER = range(7)
CONTRACT = RouteTable(
    [
        *[Route("explorer", "replay", kind) for kind in (Everything, Add, GetTotal, Floats, Get, Picky)],
        Route("learner", "replay", Add),
    ]
)
REPLIES = CONTRACT.replies[GET]


class NoOrigin:
    """The sender of messages whose outcome nobody looks at."""

    def settle(self, envelope: Envelope, outcome: Outcome, answer: Any = None) -> None:
        raise AssertionError("nothing settles these envelopes")

    def settle_handled(self, envelopes: Sequence[Envelope]) -> None:
        raise AssertionError("nothing settles these envelopes")


def told(message: Message, sender: str = "explorer", size: int = 88) -> Envelope:
    return Envelope(message, size, sender, "replay", NoOrigin(), ())


def asked(message: Message, chain: tuple[str, ...] = ()) -> Envelope:
    event: Any = None
    return RequestEnvelope(message, 88, "explorer", "replay", NoOrigin(), chain, event)


def joined(parts: Parts) -> memoryview:
    return memoryview(b"".join(parts))


def frame_of(envelopes: Sequence[Envelope], first: int = 1) -> memoryview:
    return joined(Packer().envelopes(CONTRACT, first, envelopes))


def there_and_back(message: Message) -> Any:
    (run,) = Unpacker().envelopes(CONTRACT, frame_of([told(message)]))
    (value,) = run.messages
    if isinstance(value, Exception):
        raise value
    return value


def reply_and_back(reply: Message | None) -> Any:
    frame = joined(Packer().answers(Answers(replies=[Reply(7, REPLIES.index(type(reply)), reply)])))
    (received,) = Unpacker().answers(frame, lambda number: REPLIES).replies
    assert received.number == 7
    return received.payload


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


def with_anything(value: Any) -> Everything:
    return msgspec.structs.replace(everything(), anything=value)


def measured(function: Callable[[], Any]) -> tuple[Any, int]:
    """Its result, and the bytes that it took at most."""
    function()  # caches
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
