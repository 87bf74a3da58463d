"""Small actors whose every step the tests of whole runs can observe and delay."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from pathlib import Path
from threading import Event
from typing import Any

import anyio

from actorq.actors import Actor, Config, Message, Refused, Request, State, Table, handles
from actorq.topology import Stop


class Add(Message):
    amount: int


class Total(Message):
    value: int


class GetTotal(Request[Total]):
    pass


class Crash(Message):
    """Makes the counter crash."""


class GoOn(Message):
    """Sets the number of rounds after which a worker pauses."""

    rounds: int


class CrashOver(Request[Total]):
    """Makes the counter crash over a question."""


class Refuse(Request[Total]):
    """Is refused."""


class Forever(Request[Total]):
    """Is counted, and never answered."""


class Hold(Request[Total]):
    """Holds the actors' loop until the gate `key` is opened."""

    key: str


class WaitAt(Request[Total]):
    """Waits until the gate `key` is opened, and holds nothing but the counter."""

    key: str


gates: defaultdict[str, Event] = defaultdict(Event)
"""What actors wait for, or tell, across threads; every test has keys of its own."""


async def opened(key: str) -> None:
    """Return when the gate is open, without holding the loop."""
    await anyio.to_thread.run_sync(gates[key].wait, abandon_on_cancel=True)


class Counter(Actor):
    """Sums up."""

    async def on_start(self) -> None:
        self.total = 0

    @handles
    async def add(self, message: Add) -> None:
        self.total += message.amount
        self.progress("env_steps", message.amount)
        self.observe("amount", message.amount)

    @handles
    async def get_total(self, request: GetTotal) -> Total:
        return Total(self.total)

    @handles
    async def crash(self, message: Crash) -> None:
        raise ValueError("told to crash")

    @handles
    async def crash_over(self, request: CrashOver) -> Total:
        raise ValueError("asked to crash")

    @handles
    async def refuse(self, request: Refuse) -> Total:
        raise Refused("not today")

    @handles(concurrent=4)
    async def forever(self, request: Forever) -> Total:
        self.progress("asked")
        await anyio.sleep_forever()
        raise AssertionError

    @handles
    async def hold(self, request: Hold) -> Total:
        gates[f"{request.key} held"].set()
        if not gates[request.key].wait(timeout=50):
            raise TimeoutError("nobody opened the gate")
        return Total(self.total)

    @handles
    async def wait_at(self, request: WaitAt) -> Total:
        gates[f"{request.key} waited at"].set()
        await opened(request.key)
        return Total(self.total)

    def state(self) -> State:
        return {"total": self.total}

    def load_state(self, state: State) -> None:
        self.total = state["total"]


class Worker(Actor):
    """Reports what training reports: three environment steps and an update in each round."""

    stop: Table[Stop]

    class Config(Config):
        solved_at: int = 0
        rest_seconds: float = 0.001
        rounds: int = 0
        """Rounds after which it pauses until it gets more; 0: never."""

    async def on_start(self) -> None:
        self.rounds = 0
        self.last_round = self.config.rounds
        self.told = anyio.Event()
        self.random = random.Random(self.seed)

    async def run(self) -> None:
        while True:
            while self.rounds == self.last_round != 0:
                await self.told.wait()
                self.told = anyio.Event()
            self.rounds += 1
            self.progress("updates")
            self.progress("env_steps", 3)
            if self.rounds % 5 == 0:
                self.progress("episodes")
                self.report("episode_return", self.random.random())
            if self.rounds == self.config.solved_at:
                for name, value in [("return_mean", 480.0), ("return_std", 2.0), ("episodes", 20)]:
                    self.report(f"evaluation_{name}", value)
                self.report("solved", 1.0)
            self.report("staleness", self.rounds % 3)
            await self.sleep(self.config.rest_seconds)

    def state(self) -> State:
        return {"rounds": self.rounds}

    def load_state(self, state: State) -> None:
        self.rounds = state["rounds"]

    @handles
    async def go_on(self, message: GoOn) -> None:
        self.last_round = message.rounds
        self.told.set()

    @handles
    async def get_total(self, request: GetTotal) -> Total:
        return Total(self.rounds)


class Gated(Actor):
    """Tells where in its life it is; waits there, holding nothing, if it was told a gate."""

    class Config(Config):
        key: str
        starts_at: str = ""
        stops_at: str = ""

    async def on_start(self) -> None:
        gates[f"{self.config.key} starting"].set()
        if self.config.starts_at:
            await opened(self.config.starts_at)

    async def on_stop(self) -> None:
        gates[f"{self.config.key} stopping"].set()
        if self.config.stops_at:
            await opened(self.config.stops_at)
        gates[f"{self.config.key} stopped"].set()


class Exiting(Actor):
    """Ends the thread it runs in, when it is told to crash."""

    @handles
    async def leave(self, message: Crash) -> None:
        raise SystemExit(3)


def topology(name: str = "toy", /, **tables: Any) -> dict[str, Any]:
    """One counter, unless other actors are given; crashes are fatal at once."""
    actors = {"counter": {"role": Counter}, **tables.pop("actors", {})}
    groups = {"all": {"actors": list(actors), "max_restarts": 0}}
    return {"name": name, "actors": actors, "groups": groups, **tables}


def role(cls: type[Actor], **config: Any) -> dict[str, Any]:
    return {"role": cls, "config": config}


def files_and_threads() -> tuple[int, frozenset[threading.Thread]]:
    """How many open files, and the threads but those that the event loops keep for the next `to_thread`."""
    kept = ("AnyIO worker thread", "Trio thread")
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith(kept)]
    return sum(map(_is_counted, Path("/proc/self/fd").iterdir())), frozenset(threads)


def _is_counted(file: Path) -> bool:
    """False for fonts: matplotlib keeps up to 64 of them open."""
    try:
        return file.readlink().suffix != ".ttf"
    except OSError:  # that of the listing itself
        return False


def left_behind(before: tuple[int, frozenset[threading.Thread]]) -> tuple[int, list[str]]:
    """Files and threads that there are more of than before; what an earlier test had left may have ended."""
    for thread in files_and_threads()[1] - before[1]:
        thread.join(timeout=20)  # it may be at its last line
    files, threads = files_and_threads()
    return max(0, files - before[0]), sorted(thread.name for thread in threads - before[1])
