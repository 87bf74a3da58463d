"""Leftovers of a command: processes, identified by their environment, and files."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path

from .command import command

HANG_SECONDS = 50.0
"""Long after all should be over, on however busy a machine."""

SHARED_MEMORY = Path("/dev/shm")

_MARK = "ACTORQ_TEST_MARK"


class Marked:
    """A command in a process group of its own, as a terminal starts it; what comes of it is found again."""

    def __init__(self, *arguments: str | Path, cwd: Path) -> None:
        self.mark = uuid.uuid4().hex
        self._temporary = Path(tempfile.mkdtemp(prefix="aq-"))  # short: names of sockets are
        self._shared_memory = set(SHARED_MEMORY.iterdir())
        self._process = subprocess.Popen(
            command(*arguments),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, _MARK: self.mark, "TMPDIR": str(self._temporary)},
        )
        self.pid = self._process.pid
        self.seen = ""

    def until(self, words: str) -> str:
        """Read standard error until a line has these words; that line."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.seen += line
            if words in line:
                return line
        raise AssertionError(f"it never said {words!r}, but:\n{self.seen}")

    def send(self, number: signal.Signals) -> None:
        """To the group, as a terminal does, if it still is there."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def end(self) -> tuple[int, str]:
        """Exit status and standard error. Raises TimeoutExpired if it hangs."""
        _, errors = self._process.communicate(timeout=HANG_SECONDS)
        return self._process.returncode, self.seen + errors

    def nothing_left(self) -> None:
        """Hold it to leaving no process and no file, once the last process has had time to see its end."""
        deadline = time.monotonic() + HANG_SECONDS
        while (left := self._processes()) and (seconds := deadline - time.monotonic()) > 0:
            for pidfd in left.values():
                select.select([pidfd], [], [], seconds)
                os.close(pidfd)
        assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
        assert list(self._temporary.iterdir()) == []
        assert set(SHARED_MEMORY.iterdir()) <= self._shared_memory

    def _processes(self) -> dict[int, int]:
        """Those with our mark, and a descriptor to wait for each."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):
                    if f"{_MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                        found[int(folder.name)] = os.pidfd_open(int(folder.name))
        return found

    def __enter__(self) -> Marked:
        return self

    def __exit__(self, *unused: object) -> None:
        for pid, pidfd in self._processes().items():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.close(pidfd)
        self._process.communicate()
        shutil.rmtree(self._temporary)
