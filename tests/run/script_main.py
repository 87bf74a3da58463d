"""A script of a user's own: its actors and messages are those of `__main__`, and work in nodes."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

import actorq
from actorq import Actor, Message, Ref, Request, State, handles

SCALE = 3  # a global, which what runs in a node refers to


class Pair(Message):
    left: int
    right: NDArray[np.float64]


class Sum(Message):
    value: float


class GetSum(Request[Sum]):
    pass


def scaled(value: float) -> float:
    return SCALE * value


class Adder(Actor):
    """Sums up what comes, in a node of its own."""

    class Config(actorq.Config):
        start: float = 0.0

    async def on_start(self) -> None:
        self.total = self.config.start

    @handles
    async def add(self, pair: Pair) -> None:
        self.total += scaled(pair.left + pair.right.sum())

    @handles
    async def get_sum(self, request: GetSum) -> Sum:
        return Sum(self.total)

    def state(self) -> State:
        return {"total": self.total}

    def load_state(self, state: State) -> None:
        self.total = state["total"]


class Sender(Actor):
    """Sends, asks, and prints the replies."""

    adder: Ref[Pair | GetSum]

    async def run(self) -> None:
        for left in range(3):
            await self.adder.tell(Pair(left, np.ones(2)))
        answer = await self.adder.ask(GetSum())
        self.report("sum", answer.value)
        self.progress("updates")


TOPOLOGY = {
    "name": "script",
    "nodes": {"far": {"place": "process", "transport": "nng"}},
    "actors": {
        "adder": {"role": Adder, "node": "far", "config": {"start": 0.5}},
        "sender": {
            "role": "__main__:Sender",
            "node": "main",
            "ports": {"adder": "adder"},
            "restart": "never",
        },
    },
    "stop": {"updates": 1},
}

if __name__ == "__main__":
    out, sender_s_node = sys.argv[1:]
    summary = actorq.run(TOPOLOGY, overrides=[f"actors.sender.node={sender_s_node}"], out=out)
    print(summary.stopped_by, summary.dead_letters)
