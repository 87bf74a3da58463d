"""Unauthenticated connections: each is counted and closed, none of their frames is received, and
authenticated peers are unaffected."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

import msgspec
import pynng
import pytest

from actorq.actors.statistics import TransportStatistics
from actorq.actors.wire.session import acceptor
from actorq.actors.wire.session.frame_header import HEADS, PREFIX, PROTOCOL, WELCOME, Kind
from actorq.actors.wire.session.handshake import SessionHello, seal_hello
from actorq.actors.wire.transport import Peer

from .ends import CONTRACT, MAX_FRAME_BYTES, RUN, SECRET, Contents, End, descriptors, serving, two

pytestmark = pytest.mark.anyio

REFUSALS = ("unauthenticated", "mismatched", "early", "without_hello", "bad_frames")

HELLO = SessionHello(
    protocol=PROTOCOL,
    run=RUN,
    sender="a",
    receiver="b",
    sender_incarnation=1,
    receiver_incarnation=1,
    kind=Kind.ENVELOPES,
    connection=1000,
    route_table=CONTRACT,
)


def hello(**changed: object) -> bytes:
    return seal_hello(msgspec.structs.replace(HELLO, **changed), SECRET)


def unauthenticated(b: End, *frames: bytes) -> pynng.Push0:
    """Connect with a socket of pynng and send `frames`. It does not reconnect by itself for a minute."""
    push = pynng.Push0(send_timeout=5000, reconnect_time_min=60_000, reconnect_time_max=60_000)
    push.dial(b.addresses[0], block=True)
    for frame in frames:
        push.send(frame)
    return push


def refused(end: End) -> dict[str, int]:
    statistics = end.endpoint.statistics()
    return {name: count for name in REFUSALS if (count := getattr(statistics, name))}


@asynccontextmanager
async def talking(folder: Path, scheme: str = "ipc") -> AsyncIterator[End]:
    """a sends to b, before and after; yields b, which expects a peer named "absent" too."""
    a, b = two(folder, scheme)
    async with serving(a, b):
        envelopes, answers = a.peer_up(b)
        b.peer_up(a)
        b.endpoint.peer_up(
            Peer("absent", 1, (f"ipc://{folder}/nobody",), "here", 0),
            CONTRACT,
            Contents(lambda kind, frame: None),
        )
        envelopes.put(b"before")
        answers.put(b"before")
        await b.until(lambda: len(b.frames) == 2)
        yield b
        envelopes.put(b"after")
        answers.put(b"after")
        await b.until(lambda: all(b.frames["a", kind] == [b"before", b"after"] for kind in Kind))


REFUSED_FRAMES = {
    "nothing known": (b"let me in", "unauthenticated"),
    "an empty frame": (b"", "unauthenticated"),
    "a data frame": (PREFIX.pack(HEADS[Kind.ENVELOPES], 0, 2, 0, 0) + b"body", "unauthenticated"),
    "another secret": (seal_hello(HELLO, bytes(32)), "unauthenticated"),
    "another run": (hello(run="other"), "unauthenticated"),
    "to another node": (hello(receiver="c"), "unauthenticated"),
    "its own hello, reflected": (hello(sender="b", receiver="a"), "unauthenticated"),
    "an old hello": (hello(connection=1), "unauthenticated"),
    "a hello cut short": (hello()[:-1], "unauthenticated"),
    "another protocol": (hello(protocol=PROTOCOL + 1), "mismatched"),
    "another route table": (hello(route_table=b"other"), "mismatched"),
    "an unknown peer": (hello(sender="z"), "early"),
    "another incarnation of the peer": (hello(sender_incarnation=2), "early"),
    "to another incarnation of this node": (hello(receiver_incarnation=2), "early"),
    "more than the limit": (bytes(MAX_FRAME_BYTES + 1000), "without_hello"),
}


@pytest.mark.parametrize("case", REFUSED_FRAMES)
async def test_a_refused_frame(tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    said, counted = REFUSED_FRAMES[case]
    async with talking(tmp_path) as b:
        with unauthenticated(b, said):
            await b.until(lambda: refused(b) == {counted: 1})
    assert refused(b) == {counted: 1}
    assert len([record for record in caplog.records if "refused a: " in record.message]) == (
        counted == "mismatched"
    )


async def test_a_hello_is_taken_once(tmp_path: Path) -> None:
    async with talking(tmp_path) as b:
        with unauthenticated(b, hello(sender="absent")), unauthenticated(b, hello(sender="absent")):
            await b.until(lambda: refused(b) == {"unauthenticated": 1})


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"short",
        PREFIX.pack(HEADS[Kind.ENVELOPES], 0, 1, 0, 0) + b"without a ticket",
        PREFIX.pack(HEADS[Kind.ENVELOPES], 1, 1, 0, 0) + b"with a guessed one",
        PREFIX.pack(WELCOME, 0, 0, 0, 0) + bytes(64),
        hello(sender="absent", connection=1001),
    ],
)
async def test_a_stolen_hello_does_not_reveal_the_ticket(tmp_path: Path, said: bytes) -> None:
    """An unused hello of another peer is accepted, but its ticket is sent to that peer alone."""
    async with talking(tmp_path) as b:
        with unauthenticated(b, hello(sender="absent"), said):
            await b.until(lambda: refused(b) == {"bad_frames": 1})


async def test_random_frames_of_an_authenticated_peer(tmp_path: Path) -> None:
    """A peer that knows the secret may send anything; none of it is delivered."""
    chance = random.Random(0)
    async with talking(tmp_path) as b:
        good = PREFIX.pack(HEADS[Kind.ENVELOPES], 0, 1, 0, 0) + b"body"
        for turn in range(200):
            frame = bytearray(good if turn % 2 else chance.randbytes(chance.randrange(100)))
            if frame:
                frame[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
            with unauthenticated(b, hello(sender="absent", connection=turn + 1), bytes(frame)):
                await b.until(lambda turn=turn: refused(b) == {"bad_frames": turn + 1})  # type: ignore[misc]


async def test_silent_connections_are_closed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "HELLO_SECONDS", 1.0)
    async with talking(tmp_path) as b:
        monkeypatch.setattr(acceptor, "HELLO_SECONDS", 0.05)  # a hello of `a` might take longer
        before = refused(b).get("without_hello", 0)
        pushes = [unauthenticated(b) for _ in range(20)]
        await b.until(lambda: refused(b) == {"without_hello": before + 20})
        for push in pushes:
            push.close()


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
async def test_waves_of_silent_connections(tmp_path: Path, scheme: str) -> None:
    """The number of unauthenticated connections is bounded, and an authenticated peer still gets in.

    Only their number closes them here: they may be silent for a minute.
    """
    before = descriptors()
    async with talking(tmp_path, scheme) as b:
        for wave in range(1, 6):
            pushes = [unauthenticated(b) for _ in range(200)]
            await b.until(lambda wave=wave: refused(b).get("without_hello", 0) >= 200 * wave - 64)  # type: ignore[misc]
            b.endpoint.cut()
            for push in pushes:
                push.close()
        await b.until(lambda: refused(b)["without_hello"] >= 1000)
    assert descriptors() < before + 20


def test_every_refusal_is_counted_apart() -> None:
    assert {field.name for field in fields(TransportStatistics)} >= set(REFUSALS)
