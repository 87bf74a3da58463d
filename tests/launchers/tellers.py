"""Actors that send each other consecutive numbers without end, and fail on any other."""

from __future__ import annotations

import actorq.actors as actors
from actorq.actors import Actor, Group, Message, Ref, handles

from .actors import note


class Numbered(Message):
    number: int


class Teller(Actor):
    other: Ref[Numbered]

    class Config(actors.Config):
        board: str

    async def on_start(self) -> None:
        self.sent = self.last = 0

    async def run(self) -> None:
        while True:
            await self.other.tell(Numbered(self.sent + 1))
            self.sent += 1

    async def on_stop(self) -> None:
        note(self.config.board, self.name, self.sent, self.last)

    @handles
    async def take(self, message: Numbered) -> None:
        if message.number != self.last + 1:
            raise ValueError(f"{message.number} came after {self.last}")
        self.last = message.number
        await self.sleep(0.001)
        self.progress("handled")


class MaliciousPeer(Actor):
    """Never created: the test acts as its node."""

    others: Group[Numbered]
