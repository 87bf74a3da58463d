"""Unauthenticated peers in a process of their own: nng's protocol over plain sockets, followed up to a chosen
point.

`python -m tests.launchers.unauthenticated_peers` reads a `Flood` as JSON from standard input, waits until the
other end has closed each connection, and writes a `FloodResult` to standard output.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
import sys
import tempfile
from contextlib import ExitStack, suppress
from typing import Literal

import anyio
import msgspec

GREETING = b"\0SP\0\0\x50\0\0"
"""What a Push0 socket sends first."""

TIMEOUT_SECONDS = 30


class Flood(msgspec.Struct, frozen=True, kw_only=True):
    """`count` connections to `address`, `at_a_time` of them at once."""

    address: str
    what: Literal["no_protocol", "silent", "frames", "replay"]
    """Send nothing; nng's greeting alone; the greeting and a broken frame; the greeting and `hello`."""
    count: int
    at_a_time: int = 32
    hello: bytes = b""
    """A recorded hello, to be replayed."""
    max_bytes: int = 0
    tls: tuple[str, str, str] | None = None
    """Certificate, key and authority to connect with."""
    seed: int = 0


class FloodResult(msgspec.Struct):
    """Numbers of connections that sent a whole frame (`sent`), and of those that did not (`silent`)."""

    sent: int = 0
    silent: int = 0


async def flood_with(flood: Flood) -> FloodResult:
    """Run a flood in a process of its own, to its end."""
    done = await anyio.run_process(
        [sys.executable, "-m", "tests.launchers.unauthenticated_peers"],
        input=msgspec.json.encode(flood),
        stderr=None,
    )
    return msgspec.json.decode(done.stdout, type=FloodResult)


def framed(scheme: str, length: int) -> bytes:
    """nng's header of a message of this length."""
    return (b"\1" if scheme == "ipc" else b"") + struct.pack(">Q", length)


def connect(flood: Flood) -> socket.socket:
    scheme, _, rest = flood.address.partition("://")
    if scheme == "ipc":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(rest)  # with a time limit it wouldn't wait for room in the queue
        connection.settimeout(TIMEOUT_SECONDS)
        return connection
    host, _, port = rest.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS)
    if flood.tls is None or flood.what == "no_protocol":
        return connection
    certificate, key, authority = flood.tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(certificate + key)
        file.flush()
        context.load_cert_chain(file.name)
    return context.wrap_socket(connection, server_hostname="actorq")


def wait_until_closed(connection: socket.socket) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while connection.recv(1 << 16):
            pass


def broken(flood: Flood, chance: random.Random) -> tuple[bytes, bool]:
    """What to send after the greeting, and whether it is a whole frame, if a wrong one."""
    scheme, hello = flood.address.partition(":")[0], bytearray(flood.hello)
    how = chance.randrange(6)
    if how == 0:
        frame = chance.randbytes(chance.randrange(5000))
    elif how == 1:
        frame = bytes(hello[: chance.randrange(len(hello))])
    elif how == 2:
        hello[chance.randrange(len(hello))] ^= 1 << chance.randrange(8)
        frame = bytes(hello)
    elif how == 3:
        frame = bytes(hello) + chance.randbytes(chance.randrange(1, 3000))
    else:  # more than may be, or less than was announced
        length = chance.choice(
            [flood.max_bytes + 1, 1 << 40, (1 << 63) - 1] if how == 4 else [100, flood.max_bytes]
        )
        return framed(scheme, length) + chance.randbytes(chance.randrange(90)), False
    return framed(scheme, len(frame)) + frame, True


def wave(flood: Flood, count: int, chance: random.Random, result: FloodResult) -> None:
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            frame, whole = b"", False
            if flood.what == "frames":
                frame, whole = broken(flood, chance)
            elif flood.what == "replay":
                scheme = flood.address.partition(":")[0]
                frame, whole = framed(scheme, len(flood.hello)) + flood.hello, True
            result.sent += whole
            result.silent += not whole
            with suppress(OSError):  # closed by the other end already
                connection = stack.enter_context(connect(flood))
                connections.append(connection)
                if flood.what != "no_protocol":
                    connection.sendall(GREETING + frame)
                if frame and not whole:
                    connection.shutdown(socket.SHUT_WR)
        for connection in connections:
            wait_until_closed(connection)


def main() -> None:
    flood = msgspec.json.decode(sys.stdin.buffer.read(), type=Flood)
    chance, result, left = random.Random(flood.seed), FloodResult(), flood.count
    while left:
        count = min(left, flood.at_a_time)
        wave(flood, count, chance, result)
        left -= count
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
