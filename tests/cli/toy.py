"""Actors of a user's own, small enough that a whole run takes a second."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import actorq.actors as actors
from actorq.actors import Actor, State

log = logging.getLogger(__name__)


class Stepper(Actor):
    """Counts environment steps, as fast as it gets turns, and does what a test needs of a run."""

    class Config(actors.Config):
        crash_at: int | None = None
        crash_in_start: bool = False
        start_waits_for: str = ""
        stop_waits_for: str = ""

    async def on_start(self) -> None:
        log.info("starting")
        print("an actor prints")
        self.steps = 0
        if self.config.crash_in_start:
            raise RuntimeError("could not even begin")
        wait_for(self.config.start_waits_for)

    async def run(self) -> None:
        log.info("stepping")
        while True:
            self.steps += 1
            self.progress("env_steps")
            self.report("episode_return", 7.0)
            if self.steps == self.config.crash_at:
                raise RuntimeError("one step too far")
            await self.sleep(0)

    async def on_stop(self) -> None:
        wait_for(self.config.stop_waits_for)

    def state(self) -> State:
        return {"steps": self.steps}

    def load_state(self, state: State) -> None:
        self.steps = state["steps"]
        log.info("goes on from step %d", self.steps)


def wait_for(file: str) -> None:
    """Hold the actors' loop until the test has made this file."""
    while file and not Path(file).exists():
        time.sleep(0.005)
