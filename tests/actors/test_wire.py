"""Frames: everything that may travel comes back equal, as views."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from actorq.actors.header import AnswerHeader, Header, LetterHeader
from actorq.actors.letter import Outcome
from actorq.actors.message import Message
from actorq.actors.registry import Registry, WireError
from actorq.actors.wire import MAX_HEADER_BYTES, decode, encode

from .frames import HEADER, REGISTRY, Add, Array, Everything, Floats, Inner, Total, everything, measured, same

KINDS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
DTYPES = [order + kind for kind in KINDS for order in "<>"]


def rearranged(array: Array, way: int) -> Array:
    """The same array, or a view of it that is not C-ordered."""
    views: list[Callable[[Array], Array]] = [
        lambda a: a,
        lambda a: a.T,
        lambda a: a[::-1] if a.ndim else a,
        lambda a: a[..., ::2] if a.ndim else a,
        np.asfortranarray,
        lambda a: np.broadcast_to(a, (3, *a.shape)),
    ]
    return views[way](array)


arrays = st.builds(
    rearranged,
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    ),
    st.integers(0, 5),
)
names = st.text(max_size=5)
numbers = st.integers(-(2**63), 2**64 - 1)
inners = st.builds(Inner, names, arrays)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False) | names | st.binary(max_size=9) | arrays,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
messages = st.builds(
    Everything,
    number=numbers,
    ratio=st.floats(allow_nan=False),
    flag=st.booleans(),
    text=st.text(max_size=40),
    blob=st.binary(max_size=40),
    array=arrays,
    maybe=st.none() | arrays,
    inner=inners,
    inners=st.lists(inners, max_size=3),
    named=st.dictionaries(names, arrays, max_size=3),
    pair=st.tuples(numbers, arrays),
    anything=values,
)
counts = st.integers(0, 2**64 - 1)
headers: st.SearchStrategy[Header] = st.builds(
    LetterHeader, names, names, counts, counts, st.booleans(), st.lists(names).map(tuple)
) | st.builds(AnswerHeader, counts, st.sampled_from(Outcome), names)


# What may travel comes back.


@given(headers, messages)
def test_a_message_comes_back_equal(header: Header, message: Everything) -> None:
    received, decoded = decode(encode(header, message, REGISTRY), REGISTRY)
    assert received == header
    assert same(decoded, message)


@pytest.mark.parametrize("outcome", Outcome)
def test_an_answer_comes_back_equal(outcome: Outcome) -> None:
    header = AnswerHeader(9, outcome, "learner crashed in update", ("a", "b", "a"))
    assert decode(encode(header, None, REGISTRY), REGISTRY) == (header, None)
    assert decode(encode(header, Total(value=2.5), REGISTRY), REGISTRY) == (header, Total(value=2.5))


def test_numpy_scalars_arrive_as_plain_ones() -> None:
    values = [np.float32(0.5), np.float64(1.5), np.float16(2), np.longdouble(3), np.int64(-4), np.uint8(5)]
    values += [np.bool_(True), np.str_("six"), np.bytes_(b"seven")]
    message = msgspec.structs.replace(everything(), anything=values, ratio=np.float32(0.25))
    _, decoded = decode(encode(HEADER, message, REGISTRY), REGISTRY)
    assert isinstance(decoded, Everything)
    assert same(decoded.anything, [0.5, 1.5, 2.0, 3.0, -4, 5, True, "six", b"seven"])
    assert same(decoded.ratio, 0.25)


def test_arrays_of_a_file_travel_as_plain_ones(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "frames", dtype=np.float32, mode="w+", shape=(3,))
    _, decoded = decode(encode(HEADER, Floats(data=mapped), REGISTRY), REGISTRY)
    assert isinstance(decoded, Floats)
    assert type(decoded.data) is np.ndarray


def test_many_arrays() -> None:
    many = [np.full(3, index) for index in range(1000)]
    message = msgspec.structs.replace(everything(), anything=many)
    _, decoded = decode(encode(HEADER, message, REGISTRY), REGISTRY)
    assert same(decoded, message)


# Arrays are views.


def test_arrays_are_read_only_views_of_the_frame() -> None:
    frame = bytearray(encode(HEADER, everything(), REGISTRY))
    _, decoded = decode(frame, REGISTRY)
    assert isinstance(decoded, Everything)
    memory = np.frombuffer(frame, np.uint8)
    address = memory.ctypes.data
    for array in (decoded.array, decoded.inner.data, decoded.inners[1].data, decoded.named["weights"]):
        assert np.shares_memory(array, memory)
        assert (array.ctypes.data - address) % 64 == 0
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.flags.writeable = True


def test_a_view_keeps_its_frame() -> None:
    frame = bytearray(encode(HEADER, Floats(data=np.ones(3, np.float32)), REGISTRY))
    _, decoded = decode(frame, REGISTRY)
    with pytest.raises(BufferError):  # memory that is seen by others can't move
        frame.append(0)
    del decoded
    frame.append(0)


@pytest.mark.parametrize("shift", range(17))
def test_only_what_is_not_aligned_is_copied(shift: int) -> None:
    message = msgspec.structs.replace(everything(), array=np.arange(3.0), maybe=np.arange(3, dtype=np.uint8))
    frame = encode(HEADER, message, REGISTRY)
    memory = np.zeros(len(frame) + 128, np.uint8)
    start = -memory.ctypes.data % 64 + shift
    memory[start : start + len(frame)] = np.frombuffer(frame, np.uint8)
    _, decoded = decode(memory.data[start : start + len(frame)], REGISTRY)
    assert isinstance(decoded, Everything)
    assert decoded.maybe is not None
    assert same(decoded, message)
    assert np.shares_memory(decoded.array, memory) == (shift % 8 == 0)
    assert np.shares_memory(decoded.maybe, memory)
    assert decoded.array.flags.aligned
    assert not decoded.array.flags.writeable


def test_encoding_copies_arrays_once() -> None:
    message = Floats(data=np.zeros(2**20, np.float32))
    frame, peak = measured(lambda: encode(HEADER, message, REGISTRY))
    assert len(frame) < peak < 1.01 * len(frame)
    _, peak = measured(lambda: decode(frame, REGISTRY))
    assert peak < 20_000


# What can't travel is refused where it is sent.


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.array([object()]), "dtype object can't travel"),
        (np.zeros(2, "i4,f4"), "send the fields of records one by one"),
        (np.zeros(2, "M8[s]"), "view dates as int64"),
        (np.zeros(2, "m8[s]"), "view dates as int64"),
        (np.array(["text"]), "dtype <U4 can't travel"),
        (np.zeros(2, np.longdouble), "dtype float128 can't travel"),
        (np.ma.masked_array([1, 2], [True, False]), "a MaskedArray can't travel"),
        (np.datetime64("2020-01-01"), "a numpy.datetime64 can't travel"),
        (object(), "a builtins.object can't travel"),
        (1j, "a builtins.complex can't travel"),
        (2**64, "can't be encoded"),
        ("\ud800", "can't be encoded"),
        (bytes(MAX_HEADER_BYTES), "send large data as arrays"),
    ],
    ids=[
        "object",
        "record",
        "date",
        "span",
        "text",
        "longdouble",
        "masked",
        "a date",
        "any",
        "complex",
        "int",
        "surrogate",
        "long",
    ],
)
def test_what_cannot_travel(value: Any, sentence: str) -> None:
    message = msgspec.structs.replace(everything(), anything=[value])
    with pytest.raises(WireError, match=sentence) as caught:
        encode(HEADER, message, REGISTRY)
    assert caught.value.header == HEADER
    assert "Everything" in str(caught.value)


def test_a_value_that_contains_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(WireError, match="can't be encoded"):
        encode(HEADER, msgspec.structs.replace(everything(), anything=endless), REGISTRY)


def test_only_registered_types_are_sent() -> None:
    with pytest.raises(WireError, match=r"frames:Add is not registered"):
        encode(HEADER, Add(amount=1), Registry(Total))


def test_dtype_of_an_annotation() -> None:
    class Local(Message):
        either: NDArray[np.float32 | np.float64]
        floating: NDArray[np.floating[Any]]
        long: NDArray[np.longlong]
        bare: np.ndarray

    registry = Registry(Local)
    right = Local(
        either=np.zeros(1), floating=np.zeros(1, ">f2"), long=np.zeros(1, np.longlong), bare=np.zeros(1, bool)
    )
    assert same(decode(encode(HEADER, right, registry), registry)[1], right)
    for name, kind in (("either", "f2"), ("floating", "i4"), ("long", "i4")):
        wrong = msgspec.structs.replace(right, **{name: np.zeros(1, kind)})
        with pytest.raises(WireError, match=rf"Expected an array of .* - at `\$.{name}`"):
            decode(encode(HEADER, wrong, registry), registry)
