"""Messages: the effect of sending on their arrays."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.actors import Message
from actorq.actors.message import HEADER_BYTES, VARIABLE, fixed_size, seal, sealed_array

from .messages import Add, Block, Text

Array = NDArray[Any]


class Pair(NamedTuple):
    left: Array
    right: Array


class Inside(msgspec.Struct, frozen=True):
    data: Array


class Nested(Message):
    arrays: list[Array]
    named: dict[str, Array]
    pair: Pair
    inside: Inside


def owned() -> Array:
    return np.arange(4.0)


def test_an_array_of_its_own_is_given_away_uncopied() -> None:
    array = owned()
    assert sealed_array(array) is array
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize(
    "borrow",
    [
        lambda buffer: buffer[1:],
        lambda buffer: buffer.reshape(2, 2),
        lambda buffer: np.frombuffer(memoryview(buffer), np.float64),
        lambda buffer: np.lib.stride_tricks.as_strided(buffer, writeable=False),
    ],
    ids=["slice", "reshape", "memoryview", "read-only view"],
)
def test_a_view_of_what_can_be_written_is_copied(borrow: Any) -> None:
    buffer = owned()
    view = borrow(buffer)
    sealed = sealed_array(view)
    buffer[:] = -1
    assert not sealed.flags.writeable
    assert (sealed >= 0).all()
    assert buffer.flags.writeable


def test_a_read_only_view_of_a_bytearray_is_copied() -> None:
    memory = bytearray(8)
    view = np.frombuffer(memory, np.uint8)
    view.flags.writeable = False
    sealed = sealed_array(view)
    memory[0] = 1
    assert sealed[0] == 0


def test_a_view_of_bytes_is_not_copied() -> None:
    view = np.frombuffer(bytes(8), np.uint8)
    assert sealed_array(view) is view


def test_arrays_are_found_wherever_they_are() -> None:
    buffer = owned()
    message = Nested(
        arrays=[buffer[:2], owned()],
        named={"a": buffer[2:]},
        pair=Pair(owned(), buffer[:1]),
        inside=Inside(buffer[:3]),
    )
    size = seal(message)
    found = [*message.arrays, *message.named.values(), *message.pair, message.inside.data]
    before = [array.copy() for array in found]
    buffer[:] = -1
    assert not any(array.flags.writeable for array in found)
    assert all(np.array_equal(array, was) for array, was in zip(found, before, strict=True))
    assert isinstance(message.pair, Pair)
    assert size >= HEADER_BYTES + sum(array.nbytes for array in found)


def test_sealing_again_copies_nothing() -> None:
    message = Block(data=owned()[1:])
    seal(message)
    once = message.data
    seal(message)
    assert message.data is once


def test_sizes() -> None:
    assert fixed_size(Add) == HEADER_BYTES + 8
    assert fixed_size(Block) == fixed_size(Text) == VARIABLE
    assert seal(Text("abcd")) == HEADER_BYTES + 4
    assert seal(Block(data=owned())) == HEADER_BYTES + 32
