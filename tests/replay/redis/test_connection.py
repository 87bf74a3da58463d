"""Redis connection: failures other than a Redis that is down."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from actorq.replay.redis.connection import RedisConnection, RedisDownError

from .redis_servers import LittleRedis


def test_a_server_that_is_not_redis_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        connection = RedisConnection(f"redis://127.0.0.1:{listener.getsockname()[1]}", None)
        with pytest.raises(RuntimeError, match="is not Redis"):
            connection.execute("PING")
        thread.join()
        connection.close()


class Client:
    """Whose connection is closed while it waits for an answer."""

    closed = False

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    def execute_command(self, *_: Any) -> str:
        self._connection.close()
        assert not self.closed
        return "the answer"

    def close(self) -> None:
        self.closed = True


def test_a_thread_that_is_at_a_connection_closes_it_when_it_is_done() -> None:
    connection = RedisConnection("redis://nowhere", None)
    client = connection._client = Client(connection)
    assert connection.execute("PING") == "the answer"
    assert client.closed
    with pytest.raises(RedisDownError, match="closed"):
        connection.execute("PING")


def test_looking_through_all_keys_ends_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = LittleRedis(tmp_path / "redis")
    try:
        server.client.mset({f"key{number}": "" for number in range(5000)})
        connection = RedisConnection(server.url, None)
        assert len(connection.scan("*")) == 5000
        scan, pages = connection._client.scan, 0

        def close_after_one(*words: Any, **options: Any) -> Any:
            nonlocal pages
            pages += 1
            connection.close()
            return scan(*words, **options)

        monkeypatch.setattr(connection._client, "scan", close_after_one)
        with pytest.raises(RedisDownError, match="closed"):
            connection.scan("*")
        assert pages == 1
    finally:
        server.stop()
