"""Hosts that join, as processes of `actorq node --join`, and a run that waits for them."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from actorq.actors import System
from actorq.launchers import NodeLauncher
from actorq.launchers.host.join_token import read_join_token
from actorq.launchers.launchers import other_processes
from actorq.topology import check
from tests.actors.world import AT_ONCE

from .actors import Board

ROOT = Path(__file__).parent.parent.parent
WORKER = "tests.launchers.actors:Worker"


class Joiner:
    """One process of the command."""

    def __init__(self, process: Process) -> None:
        assert process.stderr is not None
        self._process = process
        self._lines = BufferedByteReceiveStream(process.stderr)
        self.pid = process.pid
        self.said = ""

    async def until(self, words: str) -> str:
        """Read what it says until a line has these words; answers the line."""
        while True:
            try:
                line = (await self._lines.receive_until(b"\n", 65536)).decode()
            except anyio.IncompleteRead:
                raise AssertionError(f"it never said {words!r}, but:\n{self.said}") from None
            self.said += line
            if words in line:
                return line

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status; what it said last is in `said`."""
        try:
            while True:
                self.said += (await self._lines.receive()).decode()
        except anyio.EndOfStream:
            return await self._process.wait()


@asynccontextmanager
async def joining(
    join_token: Path, *more: str, cwd: Path = ROOT, command: tuple[str, ...] = ("-m", "actorq")
) -> AsyncIterator[Joiner]:
    """A process that joins, killed at the end if it still is there."""
    arguments = ["node", "--join", read_join_token(join_token).address, "--secret", str(join_token)]
    process = await anyio.open_process(
        [sys.executable, *command, *arguments, *more], cwd=cwd, stdin=None, stdout=None
    )
    try:
        yield Joiner(process)
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.aclose()


def topology(board: Board, hosts: int = 1, **main: Any) -> dict[str, Any]:
    """A worker on main, and one on each host, in a circle."""
    names = ["main", *(f"far{number}" for number in range(hosts))]
    nodes = {name: {"place": "host", "transport": "nng"} for name in names[1:]}
    return {
        "name": "hosts",
        "nodes": {"main": {"address": "tcp://127.0.0.1:0", **main}, **nodes},
        "actors": {
            f"on_{name}": {
                "role": WORKER,
                "node": name,
                "config": {"board": board.path},
                "ports": {"next": f"on_{following}"},
            }
            for name, following in zip(names, [*names[1:], names[0]], strict=True)
        },
    }


class Waiting:
    """A run that has written its join token, and begins as soon as enough hosts have joined."""

    def __init__(self, join_token: Path, elsewhere: dict[str, Any], specs: Any) -> None:
        self.join_token = join_token
        self._elsewhere = elsewhere
        self._specs = specs

    @property
    def launchers(self) -> Mapping[str, NodeLauncher]:
        """By the node's name."""
        found: Mapping[str, NodeLauncher] = self._elsewhere["launcher"].launchers
        return found

    def system(self) -> System:
        return System(self._specs, AT_ONCE, **self._elsewhere)


@asynccontextmanager
async def waiting(backend: Any, tables: dict[str, Any], folder: Path) -> AsyncIterator[Waiting]:
    plan = check(tables)
    join_token = folder / "join.secret"
    async with other_processes(plan, backend=backend, join_token=join_token) as elsewhere:
        yield Waiting(join_token, elsewhere, plan.specs)
