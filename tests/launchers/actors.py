"""Actors that can be imported, for the tests of nodes: what they go through is told by a board, a named pipe
that outlives them, and they wait at gates, named pipes too, that only the test opens."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import select
import signal
from pathlib import Path
from typing import ClassVar, Literal

import anyio
import numpy as np
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import (
    Actor,
    DeadLetter,
    Feed,
    Message,
    Ref,
    Refused,
    Request,
    State,
    Topic,
    handles,
)

log = logging.getLogger("tests.cast")


class Board:
    """Lines that the actors of all processes have noted, in the order in which they did."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "board")
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, 1 << 20)  # who writes waits for nobody
        self._rest = b""
        self.lines: list[str] = []

    def close(self) -> None:
        os.close(self._fd)

    async def reads(self, begin: str, times: int = 1) -> str:
        """Wait until so many lines begin with these words; return the last of them, without the words."""
        while len(found := [line for line in self.lines if f"{line} ".startswith(f"{begin} ")]) < times:
            await anyio.wait_readable(self._fd)
            *whole, self._rest = (self._rest + os.read(self._fd, 1 << 16)).split(b"\n")
            self.lines += [line.decode() for line in whole]
        return found[times - 1].removeprefix(begin).strip()


def note(board: str, *words: object) -> None:
    """Write a line in one piece, whatever happens to this process afterwards."""
    pipe = os.open(board, os.O_WRONLY)
    try:
        os.write(pipe, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(pipe)


class Gate:
    """Shut until opened, for all processes, and open from then on."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self.path = str(folder / name)
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def open(self) -> None:
        os.write(self._fd, b"!")

    def close(self) -> None:
        os.close(self._fd)


async def opened(acceptor: str) -> None:
    """Return when the gate is open, without holding the loop."""
    fd = os.open(acceptor, os.O_RDONLY | os.O_NONBLOCK)
    try:
        await anyio.wait_readable(fd)
    finally:
        os.close(fd)


def is_open(acceptor: str, seconds: float | None = 0) -> bool:
    """Whether it is by then; the loop is held."""
    fd = os.open(acceptor, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


class Number(Message):
    number: int


class Identity(Message):
    pid: int
    total: int


class Who(Request[Identity]):
    pass


class WhoIsNext(Request[Identity]):
    """Passed on to the next actor."""


class Wait(Message):
    """Handle nothing else until the gate is open."""

    acceptor: str


class WaitAndAnswer(Request[Identity]):
    """The same; who asks waits as long."""

    acceptor: str


class Hold(Message):
    """Hold the whole loop until the gate is open: computing, or in a call that blocks."""

    acceptor: str
    how: Literal["computing", "blocking"]


class End(Message):
    """End badly."""

    how: Literal["error", "exit", "abort", "kill"]


class Weights(Message):
    delivery: ClassVar[Literal["each", "latest"]] = "latest"
    version: int
    values: NDArray[np.float32]


class Say(Message):
    text: str


class NetworkBackend(Message):
    """Send the next actor as many numbers."""

    count: int


class Load(Message):
    data: NDArray[np.float64]


class PassLoads(Message):
    """Send the next actor as many loads of so many numbers each."""

    count: int
    numbers: int


class Worker(Actor):
    """Counts, and does what is bad for it."""

    next: Ref[Number | Who | Wait | Load] | None

    class Config(actors.Config):
        board: str
        gate_of_start: str = ""
        ask_next_in_start: bool = False
        fails_in_start: bool = False

    def note(self, *words: object) -> None:
        note(self.config.board, self.name, *words)

    async def on_start(self) -> None:
        self.total = 0
        self.note("starting", os.getpid())
        if self.config.gate_of_start:
            await opened(self.config.gate_of_start)
        if self.config.fails_in_start:
            raise ValueError("told to fail")
        if self.config.ask_next_in_start and self.next is not None:
            identity = await self.next.ask(Who())
            self.note("knows", identity.pid)

    async def run(self) -> None:
        self.note("runs", os.getpid())

    async def on_stop(self) -> None:
        self.note("stops", self.total)

    async def on_undelivered(self, dead_letter: DeadLetter) -> None:
        self.note("undelivered", dead_letter.outcome.name, dead_letter.message, dead_letter.reason)

    def state(self) -> State:
        self.note("state", self.total)
        return {"total": self.total}

    def load_state(self, state: State) -> None:
        self.total = state["total"]
        self.note("loaded", self.total)

    @handles
    async def add(self, message: Number) -> None:
        self.total += message.number
        self.progress("updates")
        self.report("total", self.total)
        self.note("added", message.number)

    @handles
    async def load(self, message: Load) -> None:
        self.total += len(message.data)

    @handles
    async def pass_loads(self, message: PassLoads) -> None:
        if self.next is not None:
            for number in range(message.count):
                await self.next.tell(Load(np.full(message.numbers, number, np.float64)))
            self.note("passed", (await self.next.ask(Who())).total)

    @handles
    async def who(self, request: Who) -> Identity:
        return Identity(os.getpid(), self.total)

    @handles
    async def who_is_next(self, request: WhoIsNext) -> Identity:
        if self.next is None:
            raise Refused("nobody is next")
        self.note("asks")
        return await self.next.ask(Who())

    @handles
    async def wait(self, message: Wait) -> None:
        self.note("waits")
        await opened(message.acceptor)

    @handles
    async def wait_and_answer(self, request: WaitAndAnswer) -> Identity:
        self.note("waits")
        await opened(request.acceptor)
        return Identity(os.getpid(), self.total)

    @handles
    async def hold(self, message: Hold) -> None:
        self.note("holds")
        if message.how == "blocking":
            is_open(message.acceptor, seconds=None)
        while not is_open(message.acceptor):
            pass
        self.note("held")

    @handles
    async def end(self, message: End) -> None:
        self.note("ends")
        match message.how:
            case "error":
                raise ValueError("told to crash")
            case "exit":
                raise SystemExit(3)
            case "abort":
                ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE: no core file
                os.abort()
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)

    @handles
    async def say(self, message: Say) -> None:
        log.warning("%s", message.text)
        print(message.text, flush=True)

    @handles
    async def pass_on(self, message: NetworkBackend) -> None:
        if self.next is not None:
            for number in range(message.count):
                await self.next.tell(Number(number))


class WeightPublisher(Worker):
    weights: Topic[Weights]

    @handles
    async def publish(self, message: Weights) -> None:
        await self.weights.publish(message)
        self.note("published", message.version)


class Subscriber(Worker):
    weights: Feed[Weights]

    @handles
    async def take(self, message: Weights) -> None:
        self.note("has", message.version, message.values.sum())
