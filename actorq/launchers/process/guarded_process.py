"""Guarded child process of a node: setup, control stream, output, and its end with the starting thread."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import anyio
from anyio.abc import ByteStream, UNIXSocketStream

from actorq.launchers.control_stream import ControlStream
from actorq.launchers.node_setup import NODE_COMMAND, NodeSetup, pickle_setup, send_pickled

log = logging.getLogger("actorq.output")

_THREAD_COUNTS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA")
_LINES_KEPT = 20
_LINE_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024
_LAST_READS = 64
"""Bound on reads after the process has ended: its pipe holds less, but its own children may keep writing to
it.
"""


class GuardedProcess:
    """One start of a node in an interpreter of its own. It ends with the thread that started it.

    `serve` must run in a task of its own from the start, and `aclose` be called at the end.
    """

    def __init__(
        self,
        node: str,
        popen: subprocess.Popen[bytes],
        control: ByteStream,
        ours: socket.socket,
        handed: bytes,
        incoming: Any,
    ) -> None:
        self.pid = popen.pid
        self.stream = ControlStream(control, incoming)
        """Commands to the process, and its node events, the last of which can still be read after its end."""
        self._popen = popen
        self._pidfd = os.pidfd_open(popen.pid)
        self._control, self._socket = control, ours
        self._handed = handed
        assert popen.stdout is not None
        assert popen.stderr is not None
        self._stdout = _Output(popen.stdout, node, logging.INFO)
        self._stderr = _Output(popen.stderr, node, logging.WARNING)
        self._ended = anyio.Event()
        self._reason = ""

    @classmethod
    async def start(cls, setup: NodeSetup, incoming: Any) -> GuardedProcess:
        """Start an interpreter, whose node events are of the type `incoming`; `serve` sends it the setup.

        Call it in a thread that runs as long as the node is needed: the process is killed when that thread
        ends. Raises PicklingError naming the actor that can't be pickled, and OSError.
        """
        handed = pickle_setup(setup)
        ours, theirs = socket.socketpair()
        with theirs:
            control = await UNIXSocketStream.from_socket(ours)
            try:
                popen = _open(setup, theirs.fileno())
                return cls(setup.node, popen, control, ours, handed, incoming)
            except BaseException:
                ours.close()
                raise

    async def serve(self) -> None:
        """Send the setup, write the stream, log the output; return when the process has ended.

        All processes of its group are killed as well. Cancelled, it kills the process and waits for its end.
        """
        try:
            async with anyio.create_task_group() as tasks:
                for task in (self._talk, self._stdout.serve, self._stderr.serve):
                    tasks.start_soon(task)
                await anyio.wait_readable(self._pidfd)
                tasks.cancel_scope.cancel()
        finally:
            await self._see_end()

    async def ended(self) -> str:
        """Wait for the end of the process; returns the cause in one line, then its last output if any."""
        await self._ended.wait()
        return self._reason

    def kill(self) -> None:
        """Kill the process and its group now. No effect if it has ended."""
        if self._popen.returncode is None:  # until it is reaped, the group's number can't be reused
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def is_stopped(self) -> bool:
        """Whether the process has been stopped, as by SIGSTOP: then it is silent without computing."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] in ("T", "t")

    async def aclose(self) -> None:
        """Kill the process if it still runs and release everything, once `serve` has returned. Shielded from
        cancellation.
        """
        with anyio.CancelScope(shield=True):
            await self._see_end()
            await self.stream.aclose()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    async def _talk(self) -> None:
        handed, self._handed = self._handed, b""
        await send_pickled(self._control, handed)
        await self.stream.serve()

    async def _see_end(self) -> None:
        if self._ended.is_set():
            return
        self.kill()
        with anyio.CancelScope(shield=True):
            await anyio.wait_readable(self._pidfd)
        self._stdout.close()
        with suppress(OSError):  # its children may hold the pipe open; what it wrote can still be read
            self._socket.shutdown(socket.SHUT_RD)
        self._reason = "\n".join(
            [_how(self._popen.wait()), *self._stderr.close()]
        )  # a zombie: returns at once
        self._ended.set()


def _open(setup: NodeSetup, control_fd: int) -> subprocess.Popen[bytes]:
    inherited = [control_fd, *([] if setup.delivery_log_fd is None else [setup.delivery_log_fd])]
    return subprocess.Popen(
        [sys.executable, *NODE_COMMAND, str(control_fd), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=inherited,
        process_group=0,
        env=_environment(setup.threads),
    )


def _environment(threads: int) -> dict[str, str]:
    """This process's environment, with its import path, and thread counts unless set."""
    counts = {f"{library}_NUM_THREADS": str(threads) for library in _THREAD_COUNTS}
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**counts, **os.environ, "PYTHONPATH": path}


def _how(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


class _Output:
    """Output of a process: logged line by line, the last lines kept."""

    def __init__(self, pipe: IO[bytes], node: str, level: int) -> None:
        self._pipe, self._level = pipe, level
        self._said_by = {"node": node, "actor": ""}
        self._begun = b""
        self._kept = deque[str](maxlen=_LINES_KEPT)
        os.set_blocking(pipe.fileno(), False)

    async def serve(self) -> None:
        """Read until no process can write any more."""
        while True:
            await anyio.wait_readable(self._pipe)
            if self._take() == b"":
                return

    def close(self) -> list[str]:
        """Read what is left of a process that has ended, and return its last lines."""
        for _ in range(_LAST_READS):
            if not self._take():
                break
        if self._begun:
            self._log(self._begun)
        self._pipe.close()
        return list(self._kept)

    def _take(self) -> bytes | None:
        """Log what is there; empty at the end of the pipe, None if there is nothing now."""
        try:
            content = os.read(self._pipe.fileno(), _READ_BYTES)
        except BlockingIOError:
            return None
        *lines, self._begun = (self._begun + content).split(b"\n")
        if len(self._begun) > _LINE_BYTES:
            lines, self._begun = [*lines, self._begun], b""
        for line in lines:
            self._log(line)
        return content

    def _log(self, line: bytes) -> None:
        text = line.decode(errors="backslashreplace")
        self._kept.append(text)
        log.log(self._level, "%s", text, extra=self._said_by)
