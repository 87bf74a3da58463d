"""Frames from a peer that is broken or hostile: refused, or a correct value, and never at a cost."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from actorq.actors.header import Header, LetterHeader
from actorq.actors.registry import WireError
from actorq.actors.wire import decode, encode

from .frames import (
    HEADER,
    REGISTRY,
    Add,
    Floats,
    everything,
    measured,
    same,
)

# What a peer may send.


def forged(
    header: Any = ("letter", "a", "b", 1),
    kind: Any = None,
    table: Any = (),
    payload: Any = None,
    data: bytes = b"",
) -> bytes:
    """A frame with these parts, whatever they are."""
    head = msgpack.encode([header, f"{Add.__module__}:Add" if kind is None else kind, table, payload])
    return prefixed(head) + data


def prefixed(head: bytes) -> bytes:
    return b"aqw1" + len(head).to_bytes(4, "little") + head


def padded(frame: bytes, data: bytes) -> bytes:
    return frame + bytes(-len(frame) % 64) + data


def nested(times: int) -> bytes:
    """An envelope whose payload is so many lists inside each other."""
    opening = msgpack.encode([("letter", "a", "b", 1), f"{Add.__module__}:Everything", ()])
    return prefixed(b"\x94" + opening[1:] + b"\x91" * times + b"\x90")


FLOATS = f"{Add.__module__}:Floats"
REFERENCE = {"data": msgpack.Ext(1, bytes(4))}
HUGE = 2**62

MALFORMED = {
    "empty": (b"", "cut short"),
    "short": (b"aqw1\0\0", "cut short"),
    "foreign": (b"GET / HTTP/1.1\r\n\r\n", "not from this version"),
    "header too long": (b"aqw1" + (10**6).to_bytes(4, "little") + b"abc", "claims a header of 1000000"),
    "header huge": (b"aqw1\xff\xff\xff\xff" + b"abc", "claims a header"),
    "no header": (prefixed(b""), "can't be read"),
    "no envelope": (prefixed(msgpack.encode({"a": 1})), "can't be read"),
    "half an envelope": (prefixed(msgpack.encode([["letter", "a", "b", 1], "type"])), "can't be read"),
    "more than an envelope": (prefixed(msgpack.encode([1, 2]) + b"\0"), "can't be read"),
    "a list of 4 G": (prefixed(b"\xdd\xff\xff\xff\xff"), "can't be read"),
    "lists of 64 K": (prefixed(b"\x94" + b"\xdc\xff\xff" * 300), "can't be read"),
    "text of 4 G": (prefixed(b"\x94\xdb\xff\xff\xff\xff"), "can't be read"),
    "payload of 4 G": (prefixed(forged()[8:-1] + b"\xdd\xff\xff\xff\xff"), "can't be read"),
    "nested deeply": (nested(100_000), "maximum recursion depth"),
    "not text": (prefixed(b"\x94\x94\xa6letter\xa1\xff\xa1b\x01\xa1c\x90\xc0"), "can't be read"),
    "unknown kind": (forged(("postcard", "a", "b", 1)), "can't be read"),
    "negative request": (forged(("letter", "a", "b", -1)), "can't be read"),
    "unknown outcome": (forged(("answer", 1, "eaten")), "can't be read"),
    "unknown type": (forged(kind="os:system"), "'os:system' is not registered"),
    "letter without message": (forged(kind=""), "'nothing', which is not a message"),
    "no payload": (forged(), "Add can't be decoded"),
    "nothing with payload": (forged(("answer", 1, "handled"), "", payload=3), "can't be decoded"),
    "missing field": (forged(payload={}), "missing required field `amount`"),
    "wrong type of field": (forged(payload={"amount": "3"}), "Expected `int`, got `str`"),
    "array for a number": (forged(payload={"amount": msgpack.Ext(1, bytes(4))}), "Expected `int`, got `ext`"),
    "number for an array": (forged(kind=FLOATS, payload={"data": 3}), "Expected `.*ndarray.*`, got `int`"),
    "missing array": (forged(kind=FLOATS, payload=REFERENCE), "no array 0 in a table of 0"),
    "unknown extension": (forged(kind=FLOATS, payload={"data": msgpack.Ext(2, bytes(4))}), "no array"),
    "wrong dtype": (
        padded(forged(kind=FLOATS, table=[("<f8", [1])], payload=REFERENCE), bytes(8)),
        "Expected an array of float32, got float64 - at `\\$.data`",
    ),
    "object dtype": (forged(table=[("|O", [1])]), "unknown dtype '|O'"),
    "structured dtype": (forged(table=[("i4,f4", [1])]), "unknown dtype 'i4,f4'"),
    "negative shape": (forged(table=[("<f4", [-1])]), "can't be read"),
    "shape of text": (forged(table=[("<f4", ["1"])]), "can't be read"),
    "65 dimensions": (forged(table=[("<f4", [1] * 65)]), "can't be read"),
    "65537 arrays": (forged(table=[("<f4", [0])] * 65_537), "can't be read"),
    "array beyond the frame": (forged(table=[("<f4", [100])], data=bytes(400)), "exceeds a frame"),
    "one array too many": (padded(forged(table=[("|u1", [8])] * 2), bytes(64)), "exceeds a frame"),
    "array of 16 EB": (forged(table=[("|u1", [2**64 - 1])]), "exceeds a frame"),
    "shape that overflows": (forged(table=[("<f4", [HUGE, HUGE, 4])], data=bytes(64)), "exceeds a frame"),
    "impossible empty shape": (padded(forged(table=[("<f4", [0, HUGE, HUGE])]), b""), "impossible shape"),
    "bytes left over": (forged(payload={"amount": 3}, data=b"\0"), "its header says"),
    "type's own error": (
        forged(kind=f"{Add.__module__}:Picky", payload={"amount": -1}),
        "an error of the user's own",
    ),
}


@pytest.mark.parametrize(("frame", "sentence"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_frame_costs_nothing(frame: bytes, sentence: str) -> None:
    def attempt() -> None:
        with pytest.raises(WireError, match=sentence):
            decode(frame, REGISTRY)

    _, peak = measured(attempt)
    assert peak < 100_000 + 8 * len(frame)


def test_forged_frames_are_right_but_for_their_fault() -> None:
    assert decode(forged(payload={"amount": 3}), REGISTRY)[1] == Add(amount=3)
    frame = padded(forged(kind=FLOATS, table=[("<f4", [2])], payload=REFERENCE), bytes(8))
    assert same(decode(frame, REGISTRY)[1], Floats(data=np.zeros(2, np.float32)))


def test_the_error_knows_whom_to_tell() -> None:
    with pytest.raises(WireError) as caught:
        decode(forged(payload={}), REGISTRY)
    assert caught.value.header == LetterHeader("a", "b", 1)
    with pytest.raises(WireError) as caught:
        decode(b"", REGISTRY)
    assert caught.value.header is None


def test_what_is_not_allowed_is_not_decoded() -> None:
    frame = forged(payload="not even an Add")
    asked = []

    def allowed(header: Header, name: str) -> bool:
        asked.append((header, name))
        return False

    with pytest.raises(WireError, match=r"a letter from 'a' to 'b' may not carry '.*:Add'"):
        decode(frame, REGISTRY, allowed=allowed)
    assert asked == [(LetterHeader("a", "b", 1), f"{Add.__module__}:Add")]
    assert decode(encode(HEADER, Add(amount=1), REGISTRY), REGISTRY, allowed=lambda *_: True)[1] == Add(
        amount=1
    )


# Damage.


def attempt(frame: bytes) -> None:
    """Either a WireError, or a value of a registered type that can be sent on."""
    try:
        header, value = decode(frame, REGISTRY)
    except WireError:
        return
    assert same(decode(encode(header, value, REGISTRY), REGISTRY), (header, value))


def test_every_single_bit_may_flip() -> None:
    frame = encode(HEADER, everything(), REGISTRY)
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        attempt(bytes(damaged))


def test_every_truncation_is_found() -> None:
    frame = encode(HEADER, everything(), REGISTRY)
    for length in range(len(frame)):
        with pytest.raises(WireError):
            decode(frame[:length], REGISTRY)


def test_damage_of_all_kinds() -> None:
    chance = random.Random(0)
    frame = encode(HEADER, everything(), REGISTRY)
    head = int.from_bytes(frame[4:8], "little")
    for _ in range(3000):
        damaged = bytearray(frame)
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(8, 8 + head)
            damaged[place] = chance.choice([chance.randrange(256), 0xDD, 0xDF, 0xC9, 0xC7, 0xDB, 0xFF, 0x7F])
        if chance.random() < 0.2:
            place = chance.randrange(len(damaged))
            del damaged[place : place + chance.randint(1, 9)]
        attempt(bytes(damaged))


@settings(max_examples=300)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes(data: bytes, with_prefix: bool) -> None:
    attempt(prefixed(data) if with_prefix else data)
