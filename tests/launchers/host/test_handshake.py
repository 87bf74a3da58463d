"""Join handshake: both ends prove that they know the secret, or the connection is refused."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import msgspec
import pytest
from anyio import EndOfStream
from anyio.abc import ByteStream

from actorq import __version__
from actorq.launchers.host import handshake
from actorq.launchers.host.handshake import (
    MOST_BYTES,
    PROTOCOL,
    Challenge,
    HandshakeError,
    JoinHello,
    Proof,
    admit,
    introduce,
)

SECRET, OTHER = b"s" * 32, b"o" * 32


class End(ByteStream):
    """One end of a connection in memory, which remembers what was sent from it."""

    def __init__(self) -> None:
        self.sent = b""
        self.peer = self
        self._news = anyio.Event()
        self._unread = b""
        self._closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while not self._unread:
            if self._closed:
                raise EndOfStream
            await self._news.wait()
            self._news = anyio.Event()
        taken, self._unread = self._unread[:max_bytes], self._unread[max_bytes:]
        return taken

    async def send(self, item: bytes) -> None:
        self.sent += item
        self.peer._unread += item
        self.peer._news.set()

    async def send_eof(self) -> None:
        self.peer._closed = True
        self.peer._news.set()

    async def aclose(self) -> None:
        await self.send_eof()
        self._closed = True


def pair() -> tuple[End, End]:
    one, other = End(), End()
    one.peer, other.peer = other, one
    return one, other


Outcome = Exception | None


async def both(
    host: Callable[[ByteStream], object], coordinator: Callable[[ByteStream], object]
) -> list[Outcome]:
    """What comes of the two, each at its end; whoever is done hangs up."""
    outcomes: list[Outcome] = [None, None]

    async def act(index: int, end: End, act: Callable[[ByteStream], object]) -> None:
        try:
            await act(end)  # type: ignore[misc]
        except Exception as error:
            outcomes[index] = error
        await end.send_eof()

    ends = pair()
    async with anyio.create_task_group() as tasks:
        for index, each in enumerate((host, coordinator)):
            tasks.start_soon(act, index, ends[index], each)
    return outcomes


def introducing(run: str = "r", secret: bytes = SECRET) -> Callable[[ByteStream], object]:
    return lambda stream: introduce(stream, run, secret)


def admitting(run: str = "r", secret: bytes = SECRET) -> Callable[[ByteStream], object]:
    return lambda stream: admit(stream, run, secret)


async def say(stream: ByteStream, message: msgspec.Struct) -> None:
    body = msgspec.msgpack.encode(message)
    await stream.send(len(body).to_bytes(2, "big") + body)


def saying(*parts: bytes) -> Callable[[ByteStream], object]:
    async def act(stream: ByteStream) -> None:
        for part in parts:
            await stream.send(part)

    return act


@pytest.mark.anyio
async def test_two_of_a_run() -> None:
    assert await both(introducing(), admitting()) == [None, None]


@pytest.mark.anyio
async def test_nothing_is_read_beyond_it() -> None:
    async def host(stream: ByteStream) -> None:
        await introduce(stream, "r", SECRET)
        await stream.send(b"at once")

    rest = []

    async def coordinator(stream: ByteStream) -> None:
        await admit(stream, "r", SECRET)
        rest.append(await stream.receive())

    assert await both(host, coordinator) == [None, None]
    assert rest == [b"at once"]


@pytest.mark.anyio
async def test_a_coordinator_without_the_secret_gets_nothing() -> None:
    host, coordinator = await both(introducing(), admitting(secret=OTHER))
    assert isinstance(host, HandshakeError)
    assert "the peer doesn't know the run's secret: is the join token of this run?" in str(host)
    assert isinstance(coordinator, EndOfStream), "no proof was sent that it could try guesses on"


@pytest.mark.anyio
async def test_a_host_without_the_secret() -> None:
    async def host(stream: ByteStream) -> None:
        await say(stream, JoinHello(PROTOCOL, __version__, "r", b"n" * 32))
        await say(stream, Proof(b"p" * 32))

    assert str((await both(host, admitting()))[1]) == "a host doesn't know the run's secret"


@pytest.mark.anyio
async def test_a_host_of_another_run() -> None:
    assert "wants to join another run" in str((await both(introducing("q"), admitting("r")))[1])


@pytest.mark.anyio
async def test_a_recorded_handshake_cant_be_replayed() -> None:
    """Not at the same coordinator, and not at the other side."""
    host_end, coordinator_end = pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(introduce, host_end, "r", SECRET)
        tasks.start_soon(admit, coordinator_end, "r", SECRET)
    _, coordinator = await both(saying(host_end.sent), admitting())
    assert str(coordinator) == "a host doesn't know the run's secret"
    host, _ = await both(introducing(), saying(coordinator_end.sent))
    assert "doesn't know the run's secret" in str(host)


@pytest.mark.anyio
async def test_proofs_are_not_reflected() -> None:
    """The coordinator's answer to a host's hello proves a coordinator, and is no use as a host's proof."""

    async def host(stream: ByteStream) -> None:
        hello = JoinHello(PROTOCOL, __version__, "r", b"n" * 32)
        await say(stream, hello)
        challenge = await handshake._receive(stream, Challenge)
        await say(stream, Proof(challenge.proof))

    assert str((await both(host, admitting()))[1]) == "a host doesn't know the run's secret"


@pytest.mark.anyio
async def test_another_version_is_reported_to_both() -> None:
    older = JoinHello(PROTOCOL, "0.0.1", "r", b"n" * 32)

    async def old_host(stream: ByteStream) -> None:
        await say(stream, older)

    async def old_coordinator(stream: ByteStream) -> None:
        await handshake._receive(stream, JoinHello)
        await say(stream, Challenge(PROTOCOL + 1, "9.0", b"n" * 32, b""))

    this = f"this is actorq {__version__} (protocol {PROTOCOL})"
    sentence = f"a host wants to join by actorq 0.0.1 (protocol {PROTOCOL}), {this}: install the same version"
    assert sentence in str((await both(old_host, admitting()))[1])
    sentence = (
        f"the run is coordinated by actorq 9.0 (protocol {PROTOCOL + 1}), {this}: install the same version"
    )
    assert sentence in str((await both(introducing(), old_coordinator))[0])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff",
        (MOST_BYTES + 1).to_bytes(2, "big"),
        b"\x00\x00",
        b"\x00\x01\xc0",
        b"\x00\x05\x94\x01\xa10\xa1",
        b"\x00\x06\x94\x01\xa1\xff\xa1r",
    ],
)
async def test_noise_is_refused(noise: bytes) -> None:
    for outcomes, index in (
        (await both(saying(noise), admitting()), 1),
        (await both(introducing(), saying(noise)), 0),
    ):
        assert isinstance(outcomes[index], HandshakeError | EndOfStream)


def test_later_versions_may_append() -> None:
    said = msgspec.msgpack.encode([PROTOCOL + 1, "9.0", "r", b"n", "more"])
    assert msgspec.msgpack.decode(said, type=JoinHello).version == "9.0"
