"""nng sockets awaited by descriptor: one connection for each dialer, whole frames, mutual TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import numpy as np
import pynng
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from actorq.actors import ActorqError
from actorq.actors.runtime.loop_waker import LoopWaker
from actorq.actors.wire.tls import SERVER_NAME, Tls
from actorq_nng import sockets
from actorq_nng.sockets import COPIED_BYTES, Dialer, Listener

from .ends import End, serving, two

pytestmark = pytest.mark.anyio


class Heard:
    """A listener whose news are kept, and dialers to it."""

    def __init__(self, waker: LoopWaker) -> None:
        self.waker = waker
        self.open: list[int] = []
        self.closed: list[int] = []
        self.turned_away = 0
        self.most = 10
        self._news = anyio.Event()
        self.listener = Listener(
            waker,
            max_bytes=100_000,
            tls=None,
            admits=lambda connections: connections <= self.most,
            turned_away=self._turned_away,
            opened=lambda pipe: self._note(self.open, pipe),
            closed=lambda pipe: self._note(self.closed, pipe),
        )

    async def news(self) -> None:
        self._news = anyio.Event()
        with anyio.fail_after(50):
            await self._news.wait()

    async def take(self) -> tuple[int, memoryview]:
        with anyio.fail_after(50):
            while (taken := self.listener.take()) is None:
                await anyio.wait_readable(self.listener.fd)
        return taken

    def _note(self, where: list[int], pipe: int) -> None:
        where.append(pipe)
        self._news.set()

    def _turned_away(self) -> None:
        self.turned_away += 1
        self._news.set()


@asynccontextmanager
async def hearing() -> AsyncIterator[Heard]:
    waker = LoopWaker()
    heard = Heard(waker)
    async with anyio.create_task_group() as group:
        group.start_soon(waker.serve)
        yield heard
        group.cancel_scope.cancel()
    heard.listener.close()
    waker.close()


@asynccontextmanager
async def dialed(heard: Heard, address: str) -> AsyncIterator[Dialer]:
    """A connected dialer."""
    dialer = Dialer(address, heard.waker, tls=None)
    try:
        with anyio.fail_after(50):
            await dialer.connected.wait()
        yield dialer
    finally:
        dialer.close()


@pytest.mark.parametrize("size", [0, 1, COPIED_BYTES - 1, COPIED_BYTES, 90_000])
async def test_a_frame_arrives_as_it_was_written(tmp_path: Path, size: int) -> None:
    body = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    async with hearing() as heard:
        address = heard.listener.listen(f"ipc://{tmp_path}/it")
        async with dialed(heard, address) as dialer:
            assert dialer.writable()
            assert dialer.send((b"head", body.data), size + 4)
            pipe, frame = await heard.take()
            assert frame == b"head" + body.tobytes()
            assert frame.readonly
            assert not heard.listener.readable()
            assert heard.listener.take() is None
            while not heard.open:
                await heard.news()
            assert heard.open == [pipe]


async def test_a_dialer_connects_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nng may dial again before it is told not to, but such a connection carries nothing."""
    monkeypatch.setattr(sockets, "NEVER_MS", 1)
    async with hearing() as heard:
        address = heard.listener.listen(f"ipc://{tmp_path}/it")
        async with dialed(heard, address) as dialer:
            dialer.send((b"one",), 3)
            pipe, _ = await heard.take()
            heard.listener.hang_up(pipe)
            with anyio.fail_after(50):
                await dialer.run()
            dialer.send((b"two",), 3)
            while len(heard.closed) < 5:
                await heard.news()
            assert heard.listener.take() is None


async def test_a_dialer_waits_for_its_listener(tmp_path: Path) -> None:
    async with hearing() as heard:
        dialer = Dialer(f"ipc://{tmp_path}/it", heard.waker, tls=None)
        heard.listener.listen(f"ipc://{tmp_path}/it")
        with anyio.fail_after(50):
            await dialer.connected.wait()
        dialer.close()


async def test_more_than_the_bound_closes_the_connection(tmp_path: Path) -> None:
    async with hearing() as heard:
        address = heard.listener.listen("tcp://127.0.0.1:0")
        async with dialed(heard, address) as dialer:
            dialer.send((bytes(100_001),), 100_001)
            with anyio.fail_after(50):
                await dialer.run()
        assert heard.listener.take() is None


async def test_connections_that_arent_admitted_are_refused_at_once(tmp_path: Path) -> None:
    async with hearing() as heard:
        heard.most = 2
        address = heard.listener.listen(f"ipc://{tmp_path}/it")
        async with dialed(heard, address), dialed(heard, address):
            with pynng.Push0(dial=address, block_on_dial=True):
                while not heard.turned_away or len(heard.open) < 2:
                    await heard.news()
        assert len(heard.open) == 2


async def test_two_addresses_of_one_listener(tmp_path: Path) -> None:
    async with hearing() as heard:
        for address in (f"ipc://{tmp_path}/it", "tcp://127.0.0.1:0"):
            bound = heard.listener.listen(address)
            assert not bound.endswith(":0")
            async with dialed(heard, bound) as dialer:
                dialer.send((address.encode(),), len(address))
                assert (await heard.take())[1] == address.encode()


async def test_a_wrong_address() -> None:
    waker = LoopWaker()
    with pytest.raises(ActorqError, match="can't dial nowhere"):
        Dialer("nowhere", waker, tls=None)
    waker.close()
    waker.call_soon(lambda: None)  # nng's threads may come late; nobody is there any more


def test_an_nng_that_does_otherwise_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets.prepare.cache_clear()
    changed = 0, memoryview(b"something else")
    monkeypatch.setattr(sockets._FrameSource, "take", lambda self, flags: changed)
    with pytest.raises(ActorqError, match=r"as actorq needs it .*install pynng>=0.9,<0.10"):
        sockets.prepare()
    monkeypatch.undo()
    sockets.prepare()


class Authority:
    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a run")])
        self.certificate = self._sign(self.name, self.key.public_key(), authority=True)

    def tls(self, name: str = SERVER_NAME) -> Tls:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return Tls(
            certificate=pem(self._sign(subject, key.public_key(), name)),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode(),
            authority=pem(self.certificate),
        )

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, name: str = "", authority: bool = False
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(self.name, subject, key, x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if name:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


async def test_frames_over_mutual_tls(tmp_path: Path) -> None:
    authority = Authority()
    a, b = two(tmp_path, "tls+tcp", authority.tls())
    async with serving(a, b):
        for outbox, end, other in ((a.peer_up(b)[0], b, "a"), (b.peer_up(a)[0], a, "b")):
            outbox.put(b"small", bytes(500_000))
            await end.until(
                lambda end=end, other=other: [*end.frames.values()] == [[b"small", bytes(500_000)]]  # type: ignore[misc]
            )


@pytest.mark.parametrize("problem", ["no certificate", "another authority", "another name"])
async def test_another_certificate_is_refused(tmp_path: Path, problem: str) -> None:
    ours = Authority()
    b = End("b", tls=ours.tls())
    b.listen("tls+tcp://127.0.0.1:0")
    a = End("a", tls=ours.tls())
    a.listen("tls+tcp://127.0.0.1:0")
    address = b.addresses[0]
    T = pynng.TLSConfig
    if problem == "no certificate":
        config = T(T.MODE_CLIENT, server_name=SERVER_NAME, ca_string=ours.tls().authority)
    else:
        theirs = Authority().tls() if problem == "another authority" else ours.tls()
        name = "somebody" if problem == "another name" else SERVER_NAME
        config = T(
            T.MODE_CLIENT,
            server_name=name,
            ca_string=ours.tls().authority,
            own_cert_string=theirs.certificate,
            own_key_string=theirs.key,
        )
    async with serving(a, b):
        while not b.endpoint.statistics().unauthenticated:  # nng counts after it has closed
            with pynng.Push0(tls_config=config) as push, pytest.raises(pynng.CryptoError):
                push.dial(address, block=True)
        envelopes, _ = a.peer_up(b)
        b.peer_up(a)
        envelopes.put(b"ours")
        await b.until(lambda: bool(b.frames))
    assert b.endpoint.statistics().without_hello == 0  # nng let none through to us
