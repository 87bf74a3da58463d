"""Redis over TLS, through a proxy that ends it, since the server here has none."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from actorq.launchers.host.certificates import make_certificates
from actorq.replay.config import ReplayConfig
from actorq.replay.redis.config import Place, RedisConfig
from actorq.replay.redis.replay import RedisReplay
from actorq.replay.redis.store import RedisStore
from tests.replay.chunks import make_chunk

from .redis_servers import LittleRedis
from .test_replay import insert


class TlsProxy:
    """Hands on what comes by TLS to a unix socket, and back."""

    def __init__(self, target: Path, certificate: Path) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                raw, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(raw,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, raw: socket.socket) -> None:
        with (
            suppress(OSError),
            self._context.wrap_socket(raw, server_side=True) as near,
            socket.socket(socket.AF_UNIX) as far,
        ):
            far.connect(str(self._target))
            back = threading.Thread(target=_pump, args=(far, near))
            back.start()
            _pump(near, far)
            back.join()
        raw.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            sink.sendall(content)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def little(tmp_path: Path) -> Iterator[LittleRedis]:
    made = LittleRedis(tmp_path / "redis", requirepass="open sesame")
    yield made
    made.stop()


def test_redis_is_reached_by_tls_and_only_with_a_certificate_that_is_trusted(
    little: LittleRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, others = make_certificates(), make_certificates()
    chain, authority, other = (tmp_path / name for name in ("chain.pem", "ca.pem", "other.pem"))
    chain.write_text(mine.certificate + mine.key)
    authority.write_text(mine.authority)
    other.write_text(others.authority)
    monkeypatch.setenv("SESAME", "open sesame")
    proxy = TlsProxy(little.socket, chain)
    try:
        url = f"rediss://127.0.0.1:{proxy.port}?ssl_check_hostname=false&ssl_ca_certs="
        assert not list(RedisConfig(url=f"{url}{authority}").problems())
        store = RedisStore(Place(f"{url}{authority}", "SESAME", "run:replay.0", 1))
        replay = RedisReplay(ReplayConfig(capacity=50), store)
        replay.adopt(replay.read(afresh=False))
        assert insert(replay, make_chunk(20)) == [range(20)]
        store.close()
        with pytest.raises(RuntimeError, match="CERTIFICATE_VERIFY_FAILED"):
            RedisStore(Place(f"{url}{other}", "SESAME", "run:replay.0", 1)).open(50, afresh=False)
    finally:
        proxy.close()
