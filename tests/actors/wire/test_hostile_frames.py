"""Frames of a broken or hostile peer: refused, or decoded correctly, without allocating memory for claims."""

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from actorq.actors.runtime.envelope import Outcome
from actorq.actors.supervision.delivery_log import MAX_NUMBER
from actorq.actors.wire.codec import (
    LARGE_BYTES,
    MAX_ENVELOPES,
    Answers,
    EnvelopeEnded,
    Found,
    Packer,
    Probe,
    Reply,
    Unpacker,
)
from actorq.actors.wire.registry import WireError
from tests.actors.frames import (
    ADD,
    CONTRACT,
    EVERYTHING,
    FLOATS,
    GET,
    GET_TOTAL,
    PICKY,
    REPLIES,
    Add,
    Floats,
    Get,
    Total,
    asked,
    everything,
    frame_of,
    joined,
    measured,
    same,
    told,
)

# What a peer may send.


def prefixed(head: bytes) -> bytes:
    return len(head).to_bytes(4, "little") + bytes(4) + head


def padded(frame: bytes, data: bytes) -> bytes:
    return frame + bytes(-len(frame) % 64) + data


def envelopes(*runs: Any, first: Any = 1, table: Any = (), data: bytes = b"") -> bytes:
    """A frame with these parts, whatever they are."""
    return prefixed(msgpack.encode([first, runs, table])) + data


def run(route: Any = ADD, payloads: Any = ([3],), chains: Any = None, sizes: Any = None) -> list[Any]:
    return [route, payloads, chains, sizes]


def floats(*table: Any, data: bytes = b"", reference: bytes = bytes(4)) -> bytes:
    """A message with an array of the table."""
    return envelopes(run(FLOATS, [[msgpack.Ext(1, reference)]], None, [88]), table=table, data=data)


def raw(payloads: bytes, route: int = ADD) -> bytes:
    """A message with these bytes where its payloads are."""
    head = msgpack.encode([1, [[route, msgspec.Raw(payloads), None, [88]]], []])
    return prefixed(head)


def answers(
    handled: Any = (),
    ended: Any = (),
    replies: Any = (),
    probes: Any = (),
    found: Any = (),
    freed: Any = (),
    table: Any = (),
) -> bytes:
    return prefixed(msgpack.encode([handled, ended, replies, probes, found, freed, table]))


HUGE = 2**62

MALFORMED = {
    "empty": (b"", "cut short"),
    "short": (bytes(7), "cut short"),
    "foreign": (b"GET / HTTP/1.1\r\n\r\n", "claims a header"),
    "header too long": ((10**6).to_bytes(8, "little") + b"abc", "claims a header of 1000000"),
    "header huge": (b"\xff\xff\xff\xff\0\0\0\0abc", "claims a header"),
    "no header": (prefixed(b""), "can't be read"),
    "a dict": (prefixed(msgpack.encode({"a": 1})), "can't be read"),
    "half a header": (prefixed(msgpack.encode([1, []])), "can't be read"),
    "more than a header": (prefixed(msgpack.encode([1, [], []]) + b"\0"), "can't be read"),
    "a list of 4 G": (prefixed(b"\xdd\xff\xff\xff\xff"), "can't be read"),
    "lists of 64 K": (prefixed(b"\x93" + b"\xdc\xff\xff" * 300), "can't be read"),
    "text of 4 G": (prefixed(b"\x93\xdb\xff\xff\xff\xff"), "can't be read"),
    "payload of 4 G": (raw(b"\x91\xdd\xff\xff\xff\xff"), "can't be read"),
    "envelopes of 4 G": (raw(b"\xdd\xff\xff\xff\xff"), "can't be read"),
    "nested deeply": (raw(b"\x91" * 100_000 + b"\x90"), "recursion"),
    "nested not so deeply": (raw(b"\x91" * 2_000 + b"\x90", EVERYTHING), "recursion"),
    "number 0": (envelopes(first=0), "Expected `int` >= 1"),
    "negative number": (envelopes(first=-1), "Expected `int` >= 1"),
    "number beyond the delivery log's": (envelopes(first=MAX_NUMBER), "Expected `int` <="),
    "number of 128 bits": (prefixed(b"\x93\xc7\x10\x00" + bytes(16) + b"\x90\x90"), "can't be read"),
    "route of another": (envelopes(run(7)), "has route 7; the route table has 7"),
    "negative route": (envelopes(run(-1)), "can't be read"),
    "route of text": (envelopes(run("0")), "can't be read"),
    "runs without number": (envelopes(*[run()] * (MAX_ENVELOPES + 1)), "can't be read"),
    "payloads of no list": (envelopes(run(payloads=3)), "a run of messages can't be read"),
    "too many messages": (
        envelopes(run(payloads=[[]] * (MAX_ENVELOPES + 1))),
        "a run of messages can't be read",
    ),
    "too many in all": (envelopes(*[run(payloads=[[3]] * MAX_ENVELOPES)] * 2), "at most 4096 are allowed"),
    "sizes too few": (envelopes(run(FLOATS, [[3], [3]], None, [1])), "a run of 2 messages has 1 sizes"),
    "chains too many": (envelopes(run(GET_TOTAL, [[]], [[], []])), "or another number of wait chains"),
    "chain of numbers": (envelopes(run(GET_TOTAL, [[]], [[1]])), "can't be read"),
    "negative size": (envelopes(run(FLOATS, [[3]], None, [-1])), "can't be read"),
    "message asked": (envelopes(run(chains=[[]])), "route 1, which carries no requests"),
    "unknown dtype": (envelopes(table=[("|O", [1])]), "unknown dtype '|O'"),
    "structured dtype": (envelopes(table=[("i4,f4", [1])]), "unknown dtype 'i4,f4'"),
    "negative shape": (envelopes(table=[("<f4", [-1])]), "can't be read"),
    "shape of text": (envelopes(table=[("<f4", ["1"])]), "can't be read"),
    "65 dimensions": (envelopes(table=[("<f4", [1] * 65)]), "can't be read"),
    "65537 arrays": (envelopes(table=[("<f4", [0])] * 65_537), "can't be read"),
    "array beyond the frame": (envelopes(table=[("<f4", [100])], data=bytes(400)), "exceeds a frame"),
    "one array too many": (padded(envelopes(table=[("|u1", [8])] * 2), bytes(64)), "exceeds a frame"),
    "array of 16 EB": (envelopes(table=[("|u1", [2**64 - 1])]), "exceeds a frame"),
    "shape that overflows": (envelopes(table=[("<f4", [HUGE, HUGE, 4])], data=bytes(64)), "exceeds a frame"),
    "impossible empty shape": (padded(envelopes(table=[("<f4", [0, HUGE, HUGE])]), b""), "impossible shape"),
    "bytes left over": (envelopes(run(), data=b"\0"), "its header says"),
    "block of nobody": (envelopes(table=[("<f4", [1], 64)]), "none is shared"),
    "negative block": (envelopes(table=[("<f4", [1], -64)]), "can't be read"),
}


@pytest.mark.parametrize(("frame", "sentence"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_frame_of_envelopes_costs_nothing(frame: bytes, sentence: str) -> None:
    def attempt() -> None:
        with pytest.raises(WireError, match=sentence):
            Unpacker().envelopes(CONTRACT, memoryview(frame))

    _, peak = measured(attempt)
    assert peak < 200_000 + 30 * len(frame)


UNDECODABLE = {
    "missing field": (envelopes(run(payloads=[[]])), "Expected `array` of at least length 1, got 0"),
    "wrong type of field": (envelopes(run(payloads=[["3"]])), "Expected `int`, got `str`"),
    "no fields at all": (envelopes(run(payloads=[3])), "Expected `array`, got `int`"),
    "fields by name": (envelopes(run(payloads=[{"amount": 3}])), "Expected `array`, got `object`"),
    "array for a number": (
        envelopes(run(payloads=[[msgpack.Ext(1, bytes(4))]])),
        "Expected `int`, got `ext`",
    ),
    "array for a message": (envelopes(run(payloads=[msgpack.Ext(1, bytes(4))])), "got `ext`"),
    "number for an array": (envelopes(run(FLOATS, [[3]], None, [1])), "Expected `.*ndarray.*`, got `int`"),
    "not text": (raw(b"\x91\x94\x01\xca\x00\x00\x00\x00\xc2\xa1\xff", EVERYTHING), "can't be decoded"),
    "missing array": (floats(), "no array 0 in a table of 0"),
    "reference of any length": (floats(reference=b"\xff" * 10_000), "no array|Exceeds the limit"),
    "unknown extension": (
        envelopes(run(FLOATS, [[msgpack.Ext(2, bytes(4))]], None, [1])),
        "no array",
    ),
    "wrong dtype": (padded(floats(("<f8", [1])), bytes(8)), "Expected an array of float32, got float64"),
    "type's own error": (envelopes(run(PICKY, [[-1]])), "an error of the user's own"),
}


@pytest.mark.parametrize(("frame", "sentence"), UNDECODABLE.values(), ids=UNDECODABLE)
def test_an_undecodable_envelope_costs_nothing_but_itself(frame: bytes, sentence: str) -> None:
    def attempt() -> None:
        ((error,),) = [each.messages for each in Unpacker().envelopes(CONTRACT, memoryview(frame))]
        with pytest.raises(WireError, match=sentence):
            raise error  # type: ignore[misc]

    _, peak = measured(attempt)
    assert peak < 200_000 + 30 * len(frame)


MALFORMED_ANSWERS = {
    "empty": (b"", "cut short"),
    "envelopes": (envelopes(run()), "can't be read"),
    "range without length": (answers(handled=[1]), "has no length"),
    "negative range": (answers(handled=[1, -1]), "can't be read"),
    "unknown outcome": (answers(ended=[[1, "eaten", "", []]]), "can't be read"),
    "handled, and no reply": (answers(ended=[[1, "handled", "", []]]), "is reported handled without"),
    "circle of nobody": (answers(ended=[[1, "circular", "", []]]), "is reported circular without"),
    "wait of nobody": (answers(probes=[[1, 0, []]]), "can't be read"),
    "found by nobody": (answers(found=[[1, []]]), "can't be read"),
    "reply of another kind": (answers(replies=[[1, 4, None]]), "has a type that the request doesn't declare"),
    "reply to nothing": (answers(replies=[[2, 0, [1.0]]]), "not asked"),
    "reply cut short": (prefixed(b"\x97\x90\x90\x91\x93\x01\x00\xdd\xff\xff\xff\xff"), "can't be read"),
    "negative block": (answers(freed=[-1]), "can't be read"),
    "array of 16 EB": (answers(table=[("|u1", [2**64 - 1])]), "exceeds a frame"),
}


def replies_to(number: int) -> tuple[Any, ...]:
    if number == 2:
        raise WireError("it was not asked")
    return REPLIES


@pytest.mark.parametrize(("frame", "sentence"), MALFORMED_ANSWERS.values(), ids=MALFORMED_ANSWERS)
def test_a_malformed_frame_of_answers_costs_nothing(frame: bytes, sentence: str) -> None:
    def attempt() -> None:
        with pytest.raises(WireError, match=sentence):
            Unpacker().answers(memoryview(frame), replies_to)

    _, peak = measured(attempt)
    assert peak < 200_000 + 30 * len(frame)


def test_forged_frames_are_right_but_for_their_problem() -> None:
    (plain,) = Unpacker().envelopes(CONTRACT, memoryview(envelopes(run())))
    assert plain.messages == [Add(amount=3)]
    frame = padded(floats(("<f4", [2])), bytes(8))
    (received,) = Unpacker().envelopes(CONTRACT, memoryview(frame))
    assert same(received.messages[0], Floats(data=np.zeros(2, np.float32)))
    said = Unpacker().answers(
        memoryview(answers([1, 1], [[2, "circular", "", ["a"]]], [[1, 3, [1.0]]])), replies_to
    )
    assert (said.handled, said.replies) == ([1, 1], [Reply(1, 3, Total(value=1.0))])
    assert said.ended == [EnvelopeEnded(2, Outcome.CIRCULAR, "", ("a",))]


def test_an_array_of_an_earlier_frame_is_not_found() -> None:
    unpacker = Unpacker()
    spoilt = padded(envelopes(run(route=7), table=[("<f4", [2])]), bytes(8))
    with pytest.raises(WireError, match="has route 7;"):
        unpacker.envelopes(CONTRACT, memoryview(spoilt))
    ((error,),) = [each.messages for each in unpacker.envelopes(CONTRACT, memoryview(floats()))]
    with pytest.raises(WireError, match="no array 0 in a table of 0"):
        raise error  # type: ignore[misc]


def test_envelopes_that_are_too_many_are_not_made() -> None:
    """A byte each on the wire, and some hundred as objects."""
    frame = memoryview(raw(b"\xdd" + (2**22).to_bytes(4, "big") + bytes([0x90]) * 2**22, GET_TOTAL))

    def attempt() -> None:
        with pytest.raises(WireError, match="a run of messages can't be read"):
            Unpacker().envelopes(CONTRACT, frame)

    assert measured(attempt)[1] < 2 * len(frame)


# Damage.


def borrow(offset: int, nbytes: int) -> memoryview:
    if offset != 64 or nbytes > LARGE_BYTES:
        raise ValueError("no such block")
    return memoryview(bytes(nbytes))


UNPACKER = Unpacker(borrow)
"""One for all frames: none leaves anything to the next."""


def attempt_envelopes(frame: bytes) -> None:
    """Either a WireError, or messages of the route table that can be sent on."""
    try:
        runs = UNPACKER.envelopes(CONTRACT, memoryview(frame))
    except WireError:
        return
    for received in runs:
        for message in received.messages:
            if not isinstance(message, WireError):
                route = CONTRACT.routes[received.route]
                (again,) = UNPACKER.envelopes(CONTRACT, frame_of([told(message, route.sender)]))
                assert same(again.messages[0], message)


def attempt_answers(frame: bytes) -> None:
    try:
        said = UNPACKER.answers(memoryview(frame), replies_to)
    except WireError:
        return
    said.replies = [reply for reply in said.replies if not isinstance(reply.payload, WireError)]
    again = UNPACKER.answers(joined(Packer().answers(said)), replies_to)
    for name in ("handled", "ended", "replies", "probes", "found", "freed"):
        assert same(getattr(again, name), getattr(said, name))


def a_frame_of_envelopes() -> bytes:
    sent = [told(Add(amount=1)), told(everything()), told(Add(amount=300)), asked(Get(name="x"), ("a", "b"))]
    return bytes(frame_of(sent))


def a_frame_of_answers() -> bytes:
    lent = Floats(data=np.zeros(LARGE_BYTES // 4, np.float32))
    ack_batch: Answers[Any] = Answers(
        handled=[1, 3, 9, 1],
        ended=[EnvelopeEnded(4, Outcome.REFUSED, "no"), EnvelopeEnded(5, Outcome.CIRCULAR, "", ("a", "b"))],
        replies=[Reply(6, 3, Total(value=1.5)), Reply(7, 1, everything()), Reply(8, 2, lent)],
        probes=[Probe(1, GET, ("a",))],
        found=[Found(3, ("a", "b"))],
        freed=[64],
    )
    return bytes(joined(Packer(lambda array: 64).answers(ack_batch)))


FRAMES = {
    "envelopes": (a_frame_of_envelopes(), attempt_envelopes),
    "answers": (a_frame_of_answers(), attempt_answers),
}
either = pytest.mark.parametrize(("frame", "attempt"), FRAMES.values(), ids=FRAMES)


@either
def test_every_single_bit_may_flip(frame: bytes, attempt: Any) -> None:
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        attempt(bytes(damaged))


@pytest.mark.parametrize(
    ("frame", "decode"),
    [
        (FRAMES["envelopes"][0], lambda frame: UNPACKER.envelopes(CONTRACT, frame)),
        (FRAMES["answers"][0], lambda frame: UNPACKER.answers(frame, replies_to)),
    ],
    ids=FRAMES,
)
def test_every_truncation_is_found(frame: bytes, decode: Any) -> None:
    for length in range(len(frame)):
        with pytest.raises(WireError):
            decode(memoryview(frame)[:length])


@either
def test_damage_of_all_kinds(frame: bytes, attempt: Any) -> None:
    chance = random.Random(0)
    head = int.from_bytes(frame[:4], "little")
    for _ in range(2000):
        damaged = bytearray(frame)
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(8, 8 + head)
            damaged[place] = chance.choice([chance.randrange(256), 0xDD, 0xDF, 0xC9, 0xC7, 0xDB, 0xFF, 0x7F])
        if chance.random() < 0.2:
            place = chance.randrange(len(damaged))
            del damaged[place : place + chance.randint(1, 9)]
        attempt(bytes(damaged))


@settings(max_examples=200)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes(data: bytes, with_prefix: bool) -> None:
    attempt_envelopes(prefixed(data) if with_prefix else data)
    attempt_answers(prefixed(data) if with_prefix else data)
