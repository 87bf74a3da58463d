"""Session handshake: hello and welcome, each authenticated with the run's secret by HMAC-SHA256 (RFC 2104).

The MAC covers a label for the direction and the whole frame, and is checked before the content is decoded.
Replayed hellos are refused by `Acceptor`, which takes only rising connection numbers.
"""

from __future__ import annotations

import hmac
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from .frame_header import HELLO, PREFIX, PREFIX_BYTES, WELCOME, Kind

SECRET_BYTES = 32
MAC_BYTES = 32
MAX_BYTES = 2048
"""Of a hello or welcome; a longer frame is refused undecoded."""


class SessionHello(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=False):
    """The first frame of a connection. Later versions only append fields, so that `protocol` can be read."""

    protocol: int
    run: str
    sender: str
    receiver: str
    sender_incarnation: int
    receiver_incarnation: int
    kind: Kind
    connection: int
    """Rises with each connection that the sender makes, so that a replayed hello is recognised."""
    route_table: bytes
    """Digest of what the ends may send each other."""
    borrows: bool = False
    """The sender can read what the receiver lends in shared memory."""


class SessionWelcome(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The answer to a hello, over the connection in the other direction: the hello, and where to resume."""

    hello: SessionHello
    received: Annotated[int, Meta(ge=0)]
    """Number of the last frame of this stream that arrived."""
    ticket: Annotated[int, Meta(ge=1, lt=2**32)]
    """Random number drawn by the receiver; every frame of the connection carries it."""


T = TypeVar("T", SessionHello, SessionWelcome)


def seal_hello(hello: SessionHello, secret: bytes) -> bytes:
    """The whole frame."""
    return _seal(HELLO, b"actorq hello\0", hello, secret)


def open_hello(frame: memoryview, secret: bytes) -> SessionHello | None:
    """The hello in this frame, or None if it is none or its MAC is wrong."""
    return _open(HELLO, b"actorq hello\0", SessionHello, frame, secret)


def seal_welcome(welcome: SessionWelcome, secret: bytes) -> bytes:
    """The whole frame."""
    return _seal(WELCOME, b"actorq welcome\0", welcome, secret)


def open_welcome(frame: memoryview, secret: bytes) -> SessionWelcome | None:
    """The welcome in this frame, or None if it is none or its MAC is wrong."""
    return _open(WELCOME, b"actorq welcome\0", SessionWelcome, frame, secret)


def _seal(head: int, label: bytes, content: SessionHello | SessionWelcome, secret: bytes) -> bytes:
    frame = PREFIX.pack(head, 0, 0, 0, 0) + msgspec.msgpack.encode(content)
    return frame + hmac.digest(secret, label + frame, "sha256")


def _open(head: int, label: bytes, kind: type[T], frame: memoryview, secret: bytes) -> T | None:
    if not PREFIX_BYTES + MAC_BYTES < len(frame) <= MAX_BYTES:
        return None
    signed, mac = bytes(frame[:-MAC_BYTES]), bytes(frame[-MAC_BYTES:])
    if PREFIX.unpack_from(signed)[0] != head:
        return None
    if not hmac.compare_digest(hmac.digest(secret, label + signed, "sha256"), mac):
        return None
    try:
        return msgspec.msgpack.decode(signed[PREFIX_BYTES:], type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # from a peer that knows the secret
        return None
