"""Real Redis servers for tests, each of its own kind, which end with the test."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import redis

from actorq.replay.redis.config import Place
from actorq.replay.redis.server import find_server


class LittleRedis:
    """A server on a unix socket in `folder`, with these settings besides; started at once.

    Where settings say `port`, it listens there, too.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.socket = folder / "redis.sock"
        self._command = self._words(folder, settings)
        self.client: Any = None
        self.start()

    def _words(self, folder: Path, settings: dict[str, Any]) -> list[str]:
        server = find_server()
        assert server is not None
        given = {
            "port": 0,
            "unixsocket": self.socket,
            "dir": folder,
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        words = [server]
        for name, value in (given | settings).items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        return words

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def place(
        self, shard: str = "run:replay.0", cache_mb: int = 64, password_env: str | None = None
    ) -> Place:
        return Place(self.url, password_env, shard, cache_mb)

    def start(self) -> None:
        """Return when it takes connections."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self._process.stdout is not None
        said = b""
        while b"eady to accept connections" not in said:
            line = self._process.stdout.readline()
            assert line, said.decode()
            said += line
        self.client = redis.Redis(unix_socket_path=str(self.socket))

    def keys(self) -> list[str]:
        return sorted(key.decode() for key in self.client.keys("*"))

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        self._process.kill()
        self._reap()

    def _reap(self) -> None:
        self.client.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
