"""Fault injection: an actor that crashes at a chosen place."""

from __future__ import annotations

import actorq.actors as actors
from actorq.actors import Actor, Message, Request, State, handles

PLACES = (
    "__init__",
    "on_start",
    "load_state",
    "handler",
    "concurrent handler",
    "thread handler",
    "run",
    "task",
    "state",
    "on_stop",
)


class Misbehaviour(Exception):
    """Raised by `Misbehaving`; the text is the place."""


class Poke(Message):
    """Handled one at a time."""


class PokeBeside(Message):
    """Handled concurrently."""


class PokeInThread(Message):
    """Handled in a thread."""


class StartTask(Message):
    """Starts a task in the actor, which may crash."""


class Pokes(Message):
    count: int


class GetPokes(Request[Pokes]):
    """Number of pokes handled, those before a restart included as far as a snapshot has them."""


class Misbehaving(Actor):
    """Counts pokes, and raises Misbehaviour at `place` in each of its first `times` incarnations."""

    class Config(actors.Config):
        place: str = ""
        times: int = 1

    def __init__(self) -> None:
        self.pokes = 0
        self._may_crash("__init__")

    def _may_crash(self, place: str) -> None:
        if self.config.place == place and self.restarts < self.config.times:
            raise Misbehaviour(place)

    async def on_start(self) -> None:
        self._may_crash("on_start")

    async def run(self) -> None:
        self._may_crash("run")

    async def on_stop(self) -> None:
        self._may_crash("on_stop")

    def state(self) -> State:
        self._may_crash("state")
        return {"pokes": self.pokes}

    def load_state(self, state: State) -> None:
        self._may_crash("load_state")
        self.pokes = state["pokes"]

    @handles
    async def poke(self, message: Poke) -> None:
        self._may_crash("handler")
        self.pokes += 1

    @handles(concurrent=2)
    async def poke_beside(self, message: PokeBeside) -> None:
        self._may_crash("concurrent handler")
        self.pokes += 1

    @handles(thread=True)
    def poke_in_thread(self, message: PokeInThread) -> None:
        self._may_crash("thread handler")
        self.pokes += 1

    @handles
    async def begin_task(self, message: StartTask) -> None:
        self.start_soon(self._task)

    async def _task(self) -> None:
        self._may_crash("task")

    @handles
    async def get_pokes(self, request: GetPokes) -> Pokes:
        return Pokes(self.pokes)
