"""The actors of the benchmark between processes, in a module that both sides import."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, Group, Message, Ref, Request, handles


class Add(Message):
    amount: int


class Total(Message):
    value: int


class GetTotal(Request[Total]):
    pass


class Busy(Message):
    """Compute in slices of half a millisecond, with a turn for others between them, for so long."""

    seconds: float


class Block(Message):
    values: NDArray[np.uint8]


class Weights(Message):
    delivery: ClassVar[Any] = "latest"
    values: NDArray[np.float32]


class CpuSeconds(Request[Total]):
    """What the process has used, in nanoseconds."""


class Counter(Actor):
    """Counts what it is told."""

    async def on_start(self) -> None:
        self.total = 0
        self.started = time.clock_gettime(time.CLOCK_MONOTONIC)

    @handles
    async def add(self, message: Add) -> None:
        self.total += message.amount

    @handles
    async def block(self, message: Block) -> None:
        self.total += int(message.values[0])

    @handles
    async def weights(self, message: Weights) -> None:
        self.total += int(message.values[0])

    @handles
    async def get_total(self, request: GetTotal) -> Total:
        return Total(self.total)

    @handles
    async def busy(self, message: Busy) -> None:
        self.start_soon(self._compute, message.seconds)

    async def _compute(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            slice_end = time.perf_counter() + 0.0005
            while time.perf_counter() < slice_end:
                pass
            await self.sleep(0)

    @handles
    async def cpu_seconds(self, request: CpuSeconds) -> Total:
        return Total(time.process_time_ns())


class Caller(Actor):
    """Lends its port to the benchmark."""

    counter: Ref[Add | GetTotal | Block | Busy | CpuSeconds]
    me: ClassVar[Caller]

    async def on_start(self) -> None:
        type(self).me = self


class WeightPublisher(Actor):
    """Lends its port to many."""

    counters: Group[Weights | GetTotal | CpuSeconds]
    me: ClassVar[WeightPublisher]

    async def on_start(self) -> None:
        type(self).me = self
