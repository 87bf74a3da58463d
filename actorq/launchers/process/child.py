"""Main module of a node process: `python -m actorq.launchers.process.child FD PARENT`, started by
`GuardedProcess`.

A new interpreter that reads its setup from the inherited socket, and then runs that node.
"""

from __future__ import annotations

import ctypes
import io
import os
import signal
import socket
import sys
import traceback
import types
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import UNIXSocketStream

from actorq.launchers.control_stream import ControlStream
from actorq.launchers.log_forwarding import Forwarding
from actorq.launchers.node_setup import LENGTH, Failed, NodeSetup
from actorq.launchers.pickling import unpickle

FLUSH_SECONDS = 1.0
"""Time limit at the end for the parent to receive the last node events and log records."""

_PR_SET_PDEATHSIG = 1

RunNode = Callable[[NodeSetup, ControlStream], Awaitable[None]]


def main() -> None:
    """Run as a node until its task ends; the exit status is 1 if an exception ended it."""
    control_fd, parent = (int(argument) for argument in sys.argv[1:])
    die_with_parent(parent)
    ignore_interrupts()
    control = socket.socket(fileno=control_fd)
    setup = receive_setup(control)
    from actorq.launchers.node import Commands, run_node  # not before sys.path and __main__ are in place

    status = run(run_node, Commands, setup, control)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without finalizing Python: nng's threads may still call into it (seen: a SIGSEGV)


def die_with_parent(parent: int) -> None:
    """Request SIGKILL from the kernel when the thread that started this process ends (PR_SET_PDEATHSIG).

    Processes that this one has started are killed by the parent, by their group; if the parent was killed,
    they are not.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended before the request
        os._exit(1)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C, which the parent handles by ending its nodes in order; SIGTERM ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def receive_setup(control: socket.socket) -> NodeSetup:
    """Read the setup, with the classes of the parent's `__main__` as those of a `__main__` here."""
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)  # the parent logs what is printed, line by line
    sys.modules["__main__"] = types.ModuleType("__main__")
    (length,) = LENGTH.unpack(_read(control, LENGTH.size))
    setup: NodeSetup = unpickle(_read(control, length))
    if setup.path_of_main is not None:
        sys.modules["__main__"].__file__ = setup.path_of_main
    os.environ.pop("PYTHONPATH", None)
    if setup.python_path is not None:
        os.environ["PYTHONPATH"] = setup.python_path
    return setup


def _read(control: socket.socket, length: int) -> bytes:
    buffer = bytearray(length)
    left = memoryview(buffer)
    while left:
        received = control.recv_into(left)
        if not received:
            sys.exit("the parent ended before it had sent the setup")
        left = left[received:]
    return bytes(buffer)


def run(run_node: RunNode, commands: Any, setup: NodeSetup, control: socket.socket) -> int:
    """Run `run_node` with a stream of `commands`, log records forwarded; returns the exit status."""
    forwarding = Forwarding(setup.node, setup.log_levels)
    try:
        return anyio.run(_lead, run_node, commands, setup, control, forwarding, backend=setup.backend)
    finally:
        forwarding.close()


async def _lead(
    run_node: RunNode, commands: Any, setup: NodeSetup, control: socket.socket, forwarding: Forwarding
) -> int:
    stream = ControlStream(await UNIXSocketStream.from_socket(control), commands)
    status = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.serve)
        tasks.start_soon(forwarding.serve, stream)
        try:
            await run_node(setup, stream)
        except Exception:
            status = 1
            stream.send_soon(Failed(traceback.format_exc()))
        with anyio.move_on_after(FLUSH_SECONDS), suppress(anyio.BrokenResourceError):
            await forwarding.flushed()
            await stream.flush()
        tasks.cancel_scope.cancel()
    await stream.aclose()
    return status


if __name__ == "__main__":
    main()
