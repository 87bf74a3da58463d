"""Workers in nodes of their own, small enough that a run with processes starts in a second."""

from __future__ import annotations

import logging
import os
import time
from itertools import count
from typing import Literal

import actorq.actors as actors
from actorq.actors import Actor, Message, Ref, State, handles

log = logging.getLogger(__name__)


class Done(Message):
    steps: int


class Counter(Actor):
    """Counts what the workers have done."""

    async def on_start(self) -> None:
        self.steps = 0

    @handles
    async def done(self, message: Done) -> None:
        self.steps += message.steps
        self.progress("env_steps", message.steps)

    def state(self) -> State:
        return {"steps": self.steps}

    def load_state(self, state: State) -> None:
        self.steps = state["steps"]
        log.info("goes on from step %d", self.steps)


class Worker(Actor):
    """Works a little, and does in its node what a test needs of a run."""

    counter: Ref[Done]

    class Config(actors.Config):
        hangs_in: Literal["", "on_start", "run", "on_stop"] = ""
        exits: bool = False

    async def on_start(self) -> None:
        print("a worker prints")
        log.info("starting")
        self._hang("on_start")

    async def run(self) -> None:
        log.info("working in process %d", os.getpid())
        if self.config.exits:
            os._exit(7)
        for number in count(1):
            await self.counter.tell(Done(1))
            self.progress("rounds")
            self.report("pid", os.getpid())
            await self.sleep(0.002)
            if number == 50:  # what it has logged is on its way by then
                self._hang("run")

    async def on_stop(self) -> None:
        self._hang("on_stop")

    def _hang(self, place: str) -> None:
        """Hold the node's loop."""
        if self.config.hangs_in == place:
            log.info("hanging")
            time.sleep(1000)
