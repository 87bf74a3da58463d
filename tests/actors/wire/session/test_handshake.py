"""Session handshake: genuine hellos and welcomes are decoded, all others refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.actors.wire.session.frame_header import PREFIX, PROTOCOL, Kind
from actorq.actors.wire.session.handshake import (
    MAX_BYTES,
    SessionHello,
    SessionWelcome,
    open_hello,
    open_welcome,
    seal_hello,
    seal_welcome,
)

SECRET = bytes(range(32))
HELLO = SessionHello(
    protocol=PROTOCOL,
    run="run",
    sender="a",
    receiver="b",
    sender_incarnation=2**63 - 1,
    receiver_incarnation=0,
    kind=Kind.ANSWERS,
    connection=7,
    route_table=b"digest",
)
WELCOME = SessionWelcome(hello=HELLO, received=3, ticket=9)


def test_what_is_sealed_opens() -> None:
    assert open_hello(memoryview(seal_hello(HELLO, SECRET)), SECRET) == HELLO
    assert open_welcome(memoryview(seal_welcome(WELCOME, SECRET)), SECRET) == WELCOME


def test_another_secret() -> None:
    assert open_hello(memoryview(seal_hello(HELLO, SECRET)), bytes(32)) is None
    assert open_welcome(memoryview(seal_welcome(WELCOME, SECRET)), bytes(32)) is None


def test_one_is_not_the_other() -> None:
    assert open_welcome(memoryview(seal_hello(HELLO, SECRET)), SECRET) is None
    assert open_hello(memoryview(seal_welcome(WELCOME, SECRET)), SECRET) is None


def test_labels_tell_the_directions_apart() -> None:
    frame = bytearray(seal_hello(HELLO, SECRET))
    frame[: PREFIX.size] = seal_welcome(WELCOME, SECRET)[: PREFIX.size]
    assert open_welcome(memoryview(frame), SECRET) is None


@given(st.data())
def test_any_changed_bit(data: st.DataObject) -> None:
    frame = bytearray(seal_hello(HELLO, SECRET))
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    assert open_hello(memoryview(frame), SECRET) is None


@given(st.data())
def test_any_shorter_or_longer(data: st.DataObject) -> None:
    frame = seal_welcome(WELCOME, SECRET)
    cut = data.draw(st.integers(0, len(frame) - 1))
    assert open_welcome(memoryview(frame[:cut]), SECRET) is None
    assert open_welcome(memoryview(frame + bytes(cut + 1)), SECRET) is None


@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    assert open_hello(memoryview(data), SECRET) is None
    assert open_welcome(memoryview(data), SECRET) is None


def test_longer_than_any_is_not_even_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = seal_hello(msgspec.structs.replace(HELLO, route_table=bytes(MAX_BYTES)), SECRET)
    monkeypatch.delattr("hmac.digest")
    assert open_hello(memoryview(frame), SECRET) is None


def test_a_sealed_hello_of_other_content_is_none() -> None:
    wrong = msgspec.structs.replace(HELLO, connection="seven")
    assert open_hello(memoryview(seal_hello(wrong, SECRET)), SECRET) is None


def test_a_later_protocol_can_be_read() -> None:
    class Later(SessionHello, frozen=True, array_like=True):
        more: str = "news"

    later = Later(*msgspec.structs.astuple(msgspec.structs.replace(HELLO, protocol=2)))
    hello = open_hello(memoryview(seal_hello(later, SECRET)), SECRET)
    assert hello is not None
    assert hello.protocol == 2
