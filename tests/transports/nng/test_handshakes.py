"""Connections that stop before nng's handshake is complete are ended; genuine ones are not."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import anyio
import pytest

from actorq.actors.wire.session.acceptor import Acceptor
from actorq.actors.wire.session.frame_header import Kind
from actorq.actors.wire.tls import Tls
from actorq.launchers.host.certificates import make_certificates
from actorq_nng import wire
from actorq_nng.handshakes import Handshakes
from tests.launchers.unauthenticated_peers import Flood, flood_with

from .ends import MAX_FRAME_BYTES, End, descriptors, serving, two
from .test_acceptor import refused

pytestmark = pytest.mark.anyio


def tls() -> Tls:
    return make_certificates()


def host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.partition("//")[2].rpartition(":")
    return host.strip("[]"), int(port)


def dumb(address: str) -> socket.socket:
    """A connection that nobody says anything over."""
    return socket.create_connection(host_and_port(address))


async def ended(connection: socket.socket) -> None:
    connection.setblocking(False)
    with anyio.fail_after(50):
        while True:
            await anyio.wait_readable(connection)
            if not connection.recv(100):  # what comes first is nng's greeting
                return


@pytest.mark.parametrize("scheme", ["tcp", "tls+tcp"])
async def test_silent_connections_are_ended(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    a, b = two(tmp_path, scheme, tls() if scheme == "tls+tcp" else None)
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        b.peer_up(a)
        envelopes.put(b"before")
        await b.until(lambda: len(b.frames["a", Kind.ENVELOPES]) == 1)
        for end in (a, b):
            await end.until(lambda end=end: end.endpoint.statistics().connections == 2)  # type: ignore[misc]
        monkeypatch.setattr(wire, "HANDSHAKE_SECONDS", 0.1)  # a true handshake might take longer
        with ExitStack() as stack:
            connections = [stack.enter_context(dumb(b.addresses[0])) for _ in range(100)]
            for connection in connections:
                await ended(connection)
            await b.until(lambda: refused(b) == {"without_hello": 100})
        envelopes.put(b"after")
        await b.until(lambda: b.frames["a", Kind.ENVELOPES] == [b"before", b"after"])
        assert b.endpoint.statistics().connections == 2
        assert a.endpoint.statistics().connections == 2
    assert refused(a) == {}
    assert descriptors() < before + 20


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_second_sweep_ends_what_was_there_at_the_first(family: socket.AddressFamily, host: str) -> None:
    handshakes = Handshakes()
    with socket.create_server((host, 0), family=family) as server, ExitStack() as stack:
        handshakes.watch(server.getsockname()[1])

        def connection() -> tuple[socket.socket, str]:
            near = stack.enter_context(socket.create_connection(server.getsockname()[:2]))
            stack.enter_context(server.accept()[0])
            name, port = near.getsockname()[:2]
            return near, f"[{name}]:{port}" if family is socket.AF_INET6 else f"{name}:{port}"

        (first, _), (_, through) = connection(), connection()
        assert handshakes.sweep(lambda: {through}) == 0
        second, _ = connection()
        assert handshakes.sweep(lambda: {through}) == 1
        assert first.recv(1) == b""
        assert handshakes.sweep(lambda: {through}) == 1
        assert second.recv(1) == b""
        assert handshakes.sweep(lambda: {through}) == 0
        assert handshakes.sweep(lambda: ()) == 0
        assert handshakes.sweep(lambda: ()) == 1
    handshakes.close()
    assert handshakes.sweep(lambda: ()) == 0


async def test_no_certificate_of_the_run(tmp_path: Path) -> None:
    before = descriptors()
    a, b = two(tmp_path, "tls+tcp", tls())
    async with serving(a, b):
        while "unauthenticated" not in refused(b):  # nng counts after it has closed
            with dumb(b.addresses[0]) as connection:
                connection.sendall(b"this is no TLS at all, to be sure")
                await ended(connection)
    assert refused(b)["unauthenticated"] >= 1
    assert descriptors() < before + 5


async def test_those_that_end_as_soon_as_they_begin_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nng may tell of their end before it tells of their beginning, above all where Python is busy."""
    closed = Acceptor.closed

    def closed_and_told(acceptor: Acceptor, pipe: int) -> None:
        closed(acceptor, pipe)
        b._tell()

    monkeypatch.setattr(Acceptor, "closed", closed_and_told)
    b = End("b")
    b.listen(f"ipc://{tmp_path}/b")
    flood = Flood(
        address=b.addresses[0], what="frames", count=600, hello=bytes(100), max_bytes=MAX_FRAME_BYTES
    )
    async with serving(b), anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, partial(sum, range(5 * 10**7)))
        await flood_with(flood)
        acceptor = b.endpoint._acceptor
        await b.until(
            lambda: sum(refused(b).values()) == 600 and not acceptor._pending and not acceptor._refused
        )
        assert isinstance(acceptor.wire, wire.NngWire)
        assert not acceptor.wire._listener._socket.pipes
