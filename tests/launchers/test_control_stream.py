"""Control stream: messages arrive exactly as they were sent, and damaged bytes are an error."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import hypothesis.extra.numpy as hnp
import msgspec
import numpy as np
import pytest
from anyio.abc import UNIXSocketStream
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actorq.actors.wire.state_codec import StateEncodingError, StateValue
from actorq.launchers.control_frames import PREFIX_BYTES, Decoder, FrameError, encode, lengths, memory
from actorq.launchers.control_stream import ControlStream

MAX = 2**20


class Named(msgspec.Struct, frozen=True, tag=True):
    states: dict[str, StateValue]
    names: tuple[str, ...] = ()


class Inner(msgspec.Struct):
    value: StateValue
    more: list[Inner] = []


class Mixed(msgspec.Struct, tag=True):
    any: StateValue | None = None
    number: int = 0
    inner: Inner | None = None
    pairs: list[tuple[str, StateValue]] = []


Order = Named | Mixed

DTYPES = st.one_of(
    *(hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.unsigned_integer_dtypes(endianness="?")),
    *(hnp.floating_dtypes(endianness="?"), hnp.complex_number_dtypes(endianness="?")),
    *(hnp.datetime64_dtypes(endianness="?"), hnp.timedelta64_dtypes(endianness="?")),
    *(hnp.unicode_string_dtypes(), hnp.byte_string_dtypes()),
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary() | ARRAYS
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, NaNs and arrays included."""
    if type(one) is not type(other):
        return False
    match one:
        case np.ndarray():
            return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        case list() | tuple():
            return len(one) == len(other) and all(map(same, one, other))
        case dict():
            return list(one) == list(other) and all(map(same, one.values(), other.values()))
        case float() if math.isnan(one):
            return math.isnan(other)
        case float():
            return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


def frame_of(message: msgspec.Struct) -> bytes:
    return b"".join(encode(message, MAX))


def decoded(frame: bytes, max_bytes: int = MAX, incoming: Any = Order) -> Any:
    """What one frame says, read as the stream does it. Raises FrameError for more or fewer bytes as well."""
    if len(frame) < PREFIX_BYTES:
        raise FrameError("cut short")
    of_head, of_arrays = lengths(frame[:PREFIX_BYTES], max_bytes)
    if len(frame) != PREFIX_BYTES + of_head + of_arrays:
        raise FrameError("cut short, or too long")
    decoder, at = Decoder(incoming), PREFIX_BYTES + of_head
    for array in decoder.open(frame[PREFIX_BYTES:at], of_arrays):
        if array.nbytes:
            memory(array)[:] = frame[at : at + array.nbytes]
            at += array.nbytes
    return decoder.message()


def mixed(value: Any) -> Mixed:
    return Mixed(StateValue(value))


def arrived(value: Any) -> Any:
    return decoded(frame_of(mixed(value))).any.value


@given(VALUES)
@example(2**64)
@example(-(2**63) - 1)
@example({"a": (1, [np.zeros(()), (np.zeros((0, 3)), ())])})
def test_values_of_any_type_arrive_exactly(value: Any) -> None:
    assert same(arrived(value), value)
    restored = decoded(frame_of(Named({"actor": StateValue(value)}, names=("a",))))
    assert same(restored.states["actor"].value, value)
    assert restored.names == ("a",)
    more = [Inner(StateValue((value,)))]
    nested = decoded(frame_of(Mixed(inner=Inner(StateValue(value), more), pairs=[("x", StateValue(value))])))
    assert same([nested.inner.value.value, nested.inner.more[0].value.value], [value, (value,)])
    assert same(nested.pairs[0][1].value, value)


def test_numpys_numbers_and_subclasses_become_plain() -> None:
    class Name(str):
        pass

    value = [np.float32(1.5), np.int64(3), np.bool_(True), Name("n"), bytearray(b"b")]
    assert same(arrived(value), [1.5, 3, True, "n", b"b"])


def test_arrays_arrive_as_memory_of_their_own() -> None:
    sent = np.arange(12.0).reshape(3, 4).T  # not C-ordered
    one, other = arrived([sent, sent])
    one[:] = 0
    assert other.tolist() == sent.tolist()


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ({"a": [1, object()]}, StateEncodingError, r"^a/1 is a object; a state is made of"),
        ({"a": {3: 1}}, StateEncodingError, r"^a has the key 3; a state's keys are text"),
        ([np.array([object()])], StateEncodingError, r"^0 is an array of dtype object"),
        (np.zeros(2, [("x", "i4")]), StateEncodingError, r"array of dtype \[\('x', '<i4'\)\]"),
        (np.datetime64("2020-01-01"), StateEncodingError, r"an array of it would be kept"),
        ("\udc80", FrameError, "can't be encoded"),
        (np.zeros(MAX), FrameError, "at most 1048576 may be sent"),
    ],
)
def test_a_value_that_cant_be_sent_is_reported(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        encode(mixed(value), MAX)


def test_a_value_within_itself_is_reported() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(FrameError, match="can't be encoded"):
        encode(mixed(value), MAX)


# Damage.

SOUND = [
    frame_of(mixed({"a": (1, [np.arange(6.0), 2**80, (b"xyz", "text")]), "b": np.zeros((2, 0))})),
    frame_of(Named({"actor": StateValue({"x": np.array(["a", "b"]), "y": ((), 5)})}, names=("n", "m"))),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    frame = bytearray(draw(st.sampled_from(SOUND)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(frame) - 1))
        frame[at] = draw(st.integers(0, 255))
    return bytes(frame)


@settings(max_examples=500)
@given(damaged() | st.binary(max_size=200))
def test_damaged_frames_are_reported_and_nothing_else_happens(frame: bytes) -> None:
    with suppress(FrameError):
        decoded(frame)


@settings(max_examples=300)
@given(st.binary(max_size=100), st.integers(0, 200))
def test_random_heads_are_reported(head: bytes, in_arrays: int) -> None:
    prefix = frame_of(Mixed())[:4] + len(head).to_bytes(4, "little") + in_arrays.to_bytes(8, "little")
    with pytest.raises(FrameError):
        decoded(prefix + head + bytes(in_arrays))


def head(dtype: str, shape: list[int], in_arrays: int) -> bytes:
    body = msgspec.Raw(msgspec.msgpack.encode({"type": "Mixed"}))
    content = msgspec.msgpack.encode([[[dtype, shape]], body])
    prefix = frame_of(Mixed())[:4] + len(content).to_bytes(4, "little") + in_arrays.to_bytes(8, "little")
    return prefix + content + bytes(min(in_arrays, 64))


@pytest.mark.parametrize(
    ("dtype", "shape", "in_arrays"),
    [
        ("|O8", [1], 8),
        ("<i4,<f8", [1], 12),
        ("|U0", [2**40], 0),
        ("|V0", [2**40], 0),
        ("<f8", [2**61], 8),
        ("<f8", [-1], 8),
        ("<f8", [2**62, 0], 0),
        ("<f8", [1] * 65, 8),
        ("<f8", [2], 8),
        ("{'x': 1}", [1], 8),
    ],
)
def test_arrays_that_cant_be_are_refused_before_memory_is_taken(
    dtype: str, shape: list[int], in_arrays: int
) -> None:
    with pytest.raises(FrameError):
        decoded(head(dtype, shape, in_arrays))


def test_a_frame_beyond_the_bound_is_refused_by_its_prefix() -> None:
    prefix = frame_of(Mixed())[:4] + (2**31).to_bytes(4, "little") + (2**40).to_bytes(8, "little")
    with pytest.raises(FrameError, match="claims 1101659111424 bytes, at most 1048576 are allowed"):
        decoded(prefix)


@pytest.mark.parametrize(
    "tree",
    [
        {"$array": "absent"},
        {"$array": {"name": "x", "dtype": "|O", "shape": [1]}},
        {"$array": {"name": "x", "dtype": "<i4,<f8", "shape": [1]}},
        {"$array": {"name": "x", "dtype": "<f8", "shape": [2**40]}},
        {"$bytes": 5},
        {"$int": "no number"},
        {"$tuple": 5},
        {"$dict": []},
        {"$unknown": 1},
    ],
    ids=str,
)
def test_a_state_that_cant_be_decoded_is_refused(tree: Any) -> None:
    body = msgspec.msgpack.encode({"type": "Mixed", "any": [tree, {"x": 1, "y": None}]})
    content = msgspec.msgpack.encode([[], msgspec.Raw(body)])
    with pytest.raises(FrameError, match="message can't be read"):
        decoded(frame_of(Mixed())[:4] + len(content).to_bytes(4, "little") + bytes(8) + content)


# Over a socket.


@asynccontextmanager
async def two_ends(max_frame_bytes: int = MAX) -> AsyncIterator[tuple[ControlStream, ControlStream]]:
    """Two streams joined, both being written."""
    ends = socket.socketpair()
    streams = [
        ControlStream(await UNIXSocketStream.from_socket(end), Order, max_frame_bytes=max_frame_bytes)
        for end in ends
    ]
    async with anyio.create_task_group() as tasks:
        for stream in streams:
            tasks.start_soon(stream.serve)
        yield streams[0], streams[1]
        tasks.cancel_scope.cancel()
    for stream in streams:
        await stream.aclose()


@pytest.mark.anyio
async def test_messages_arrive_in_order_in_both_directions() -> None:
    """More than a socket holds, so that both are written and read in pieces."""
    large = np.arange(100_000.0)

    async def talk(stream: ControlStream, got: list[Any]) -> None:
        for number in range(200):
            stream.send_soon(mixed((number, large if number % 10 == 0 else None)))
        async for message in stream:
            got.append(message.any.value)
            if len(got) == 200:
                return

    async with two_ends() as (one, other):
        first, second = list[Any](), list[Any]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk, one, first)
            tasks.start_soon(talk, other, second)
    for got in (first, second):
        assert [number for number, _ in got] == list(range(200))
        assert all(np.array_equal(array, large) for number, array in got if number % 10 == 0)


@pytest.mark.anyio
async def test_send_returns_when_it_is_written() -> None:
    async with two_ends() as (one, other):
        one.send_soon(Mixed(number=1))
        assert one.waiting_bytes > 0
        await one.send(Mixed(number=2))
        assert one.waiting_bytes == 0
        assert [(await anext(other)).number for _ in range(2)] == [1, 2]


class Counting:
    """Counts what is written."""

    def __init__(self) -> None:
        self.written: list[int] = []

    async def send(self, item: bytes) -> None:
        self.written.append(len(item))
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_what_waits_goes_in_one_write() -> None:
    counting = Counting()
    stream = ControlStream(counting, Order)  # type: ignore[arg-type]
    for number in range(100):
        stream.send_soon(Mixed(number=number))
    waiting = stream.waiting_bytes
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.serve)
        await stream.flush()
        tasks.cancel_scope.cancel()
    assert counting.written == [waiting]


@pytest.mark.anyio
@pytest.mark.parametrize("cut", [0, 5, PREFIX_BYTES, -1])
async def test_the_peers_end_ends_reading(cut: int) -> None:
    """Between two frames or in the middle of one."""
    ours, theirs = socket.socketpair()
    stream = ControlStream(await UNIXSocketStream.from_socket(ours), Order)
    with theirs:
        theirs.sendall(frame_of(mixed("whole")) + frame_of(mixed("cut"))[:cut])
    assert [message.any.value async for message in stream] == ["whole"]
    await stream.aclose()


@pytest.mark.anyio
async def test_sending_to_a_peer_that_is_gone() -> None:
    ours, theirs = socket.socketpair()
    stream = ControlStream(await UNIXSocketStream.from_socket(ours), Order)
    theirs.close()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.serve)  # returns by itself
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(Mixed())
    stream.send_soon(Mixed())
    with pytest.raises(anyio.BrokenResourceError):
        await stream.flush()
    await stream.aclose()


@pytest.mark.anyio
async def test_damage_is_reported_to_the_reader() -> None:
    ours, theirs = socket.socketpair()
    stream = ControlStream(await UNIXSocketStream.from_socket(ours), Order)
    with theirs:
        theirs.sendall(frame_of(Mixed(number=1)) + b"GET / HTTP/1.1\r\n\r\n")
        assert (await anext(stream)).number == 1
        with pytest.raises(FrameError, match="begins with b'GET '"):
            await anext(stream)
    await stream.aclose()


@pytest.mark.anyio
async def test_a_cancelled_send_is_sent_all_the_same() -> None:
    async with two_ends() as (one, other):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await one.send(mixed("sent"))
        assert scope.cancelled_caught
        assert (await anext(other)).any.value == "sent"
