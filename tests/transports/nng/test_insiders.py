"""Malicious peers that know the secret: each costs the others no more than it was sent."""

from __future__ import annotations

import hmac
from pathlib import Path

import msgspec
import pytest
from msgspec import msgpack

from actorq.actors.wire.session.frame_header import HEADS, PREFIX, PROTOCOL, Kind
from actorq.actors.wire.session.frame_header import HELLO as HELLO_HEAD
from actorq.actors.wire.session.handshake import SessionWelcome, open_welcome, seal_welcome

from .ends import SECRET
from .test_acceptor import HELLO, hello, refused, talking, unauthenticated

NESTED = b"\x91" * 1000 + b"\xc0"


def sealed(content: bytes) -> bytes:
    """A hello of anything, with the right seal."""
    frame = PREFIX.pack(HELLO_HEAD, 0, 0, 0, 0) + content
    return frame + hmac.digest(SECRET, b"actorq hello\0" + frame, "sha256")


CONTENTS = {
    "another type": msgpack.encode([PROTOCOL, 7]),
    "no text": b"\x99\x01\xa1\xff",
    "lists in lists": b"\x9b" + b"".join(map(msgpack.encode, msgspec.structs.astuple(HELLO))) + NESTED,
    "too many": b"\xdd\xff\xff\xff\xff" + msgpack.encode(PROTOCOL),
}


@pytest.mark.anyio
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
async def test_a_hello_of_nonsense(tmp_path: Path, content: bytes) -> None:
    async with talking(tmp_path) as b:
        with unauthenticated(b, sealed(content)):
            await b.until(lambda: refused(b) == {"unauthenticated": 1})


@pytest.mark.parametrize("changed", [{"ticket": 0}, {"ticket": -1}, {"ticket": 2**32}, {"received": -1}])
def test_a_welcome_that_no_frame_could_carry(changed: dict[str, int]) -> None:
    fine = SessionWelcome(hello=HELLO, received=0, ticket=2**32 - 1)
    assert open_welcome(memoryview(seal_welcome(fine, SECRET)), SECRET) == fine
    wrong = msgspec.structs.replace(fine, **changed)
    assert open_welcome(memoryview(seal_welcome(wrong, SECRET)), SECRET) is None


@pytest.mark.anyio
async def test_a_peer_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with talking(tmp_path) as b:
        for turn in range(1, 11):
            said = hello(sender="absent", connection=turn), PREFIX.pack(HEADS[Kind.ENVELOPES], 0, 1, 0, 0)
            with unauthenticated(b, *said):
                await b.until(lambda turn=turn: refused(b) == {"bad_frames": turn})  # type: ignore[misc]
    (record,) = caplog.records
    assert record.getMessage() == "refused absent: it broke the protocol: its connection is closed"


@pytest.mark.anyio
async def test_unknown_names_are_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with talking(tmp_path) as b:
        for turn in range(1, 11):
            with unauthenticated(b, hello(sender=f"z{turn}", protocol=PROTOCOL + turn)):
                await b.until(lambda turn=turn: refused(b) == {"early": turn})  # type: ignore[misc]
    assert not caplog.records
