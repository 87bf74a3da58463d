"""Real Redis servers for tests, each of its own kind, which end with the test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis

from actorq.replay.redis import reaper as reaper
from actorq.replay.redis.config import Place
from actorq.replay.redis.server import find_server

REAPER = Path(reaper.__file__)
PID = re.compile(r"pid (\d+)")


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
        words = [
            sys.executable,
            "-I",
            "-S",
            str(REAPER),
            str(self.socket),
            "-",
        ]  # so that none outlives a test
        self._process = subprocess.Popen(
            [*words, *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        assert self._process.stdout is not None
        said: list[str] = []
        while not ("eady to accept connections" in "".join(said) and any(map(PID.match, said))):
            line = self._process.stdout.readline().decode()
            assert line, "".join(said)
            said.append(line)
        self._pid = next(int(found[1]) for found in map(PID.match, said) if found)
        self.client = redis.Redis(unix_socket_path=str(self.socket))

    def keys(self) -> list[str]:
        return sorted(key.decode() for key in self.client.keys("*"))

    def kill(self) -> None:
        """By SIGKILL."""
        os.kill(self._pid, signal.SIGKILL)
        self._process.wait()
        self._let_go()

    def stop(self) -> None:
        if self._process.poll() is None:
            self.kill()

    def _let_go(self) -> None:
        self.client.close()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
