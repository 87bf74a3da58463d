"""Telling and asking within one process, against bare anyio memory object streams of the same size.

`python -m tests.bench.actors` prints for either back end: tells/s as a multiple of the stream's, and the time
of an ask as a share of the way there and back through two streams. Best of several rounds, taken in turns.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import ClassVar

import anyio

from actorq.actors import Actor, ActorSpec, MailboxBounds, Message, Ref, Request, System, handles

SIZE = 1000
TELLS = 20_000
ASKS = 4_000
ROUNDS = 7
BACK_ENDS = ("asyncio", "trio")


class Add(Message):
    amount: int


class Total(Message):
    value: int


class GetTotal(Request[Total]):
    pass


class Counter(Actor):
    async def on_start(self) -> None:
        self.total = 0

    @handles
    async def add(self, message: Add) -> None:
        self.total += message.amount

    @handles
    async def get_total(self, request: GetTotal) -> Total:
        return Total(self.total)


class Caller(Actor):
    """Tells and asks the counter from its own loop, as often as it is asked to."""

    counter: Ref[Add | GetTotal]
    go: ClassVar[anyio.Event]
    seconds: ClassVar[dict[str, float]]
    done: ClassVar[anyio.Event]

    async def run(self) -> None:
        counter, message, request = self.counter, Add(1), GetTotal()
        began = time.perf_counter()
        for _ in range(TELLS):
            await counter.tell(message)
        assert (await counter.ask(request)).value == TELLS
        self.seconds["tell"] = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(ASKS):
            await counter.ask(request)
        self.seconds["ask"] = time.perf_counter() - began
        self.done.set()


async def time_actors() -> dict[str, float]:
    caller = type("Timed", (Caller,), {"seconds": {}, "done": anyio.Event()})
    specs = [
        ActorSpec(name="counter", cls=Counter, mailbox=MailboxBounds(messages=SIZE)),
        ActorSpec(name="caller", cls=caller, ports={"counter": ("counter",)}),
    ]
    async with System(specs):
        await caller.done.wait()  # type: ignore[attr-defined]
    seconds: dict[str, float] = caller.seconds  # type: ignore[attr-defined]
    return seconds


async def time_streams() -> dict[str, float]:
    seconds = {}
    total = 0

    async def handle(message: Add) -> None:
        nonlocal total
        total += message.amount

    async def answer(request: GetTotal) -> Total:
        return Total(total)

    there_in, there_out = anyio.create_memory_object_stream[Add](SIZE)

    async def receive() -> None:
        async for message in there_out:
            await handle(message)

    began = time.perf_counter()
    async with there_out, anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        async with there_in:
            message = Add(1)
            for _ in range(TELLS):
                await there_in.send(message)
    assert total == TELLS
    seconds["tell"] = time.perf_counter() - began

    ask_in, ask_out = anyio.create_memory_object_stream[GetTotal](SIZE)
    reply_in, reply_out = anyio.create_memory_object_stream[Total](SIZE)

    async def reply() -> None:
        async for request in ask_out:
            await reply_in.send(await answer(request))

    async with ask_out, reply_in, reply_out, anyio.create_task_group() as tasks:
        tasks.start_soon(reply)
        began = time.perf_counter()
        async with ask_in:
            request = GetTotal()
            for _ in range(ASKS):
                await ask_in.send(request)
                await reply_out.receive()
        seconds["ask"] = time.perf_counter() - began
    return seconds


def best(function: Callable[[], Awaitable[dict[str, float]]], backend: str, so_far: dict[str, float]) -> None:
    for name, seconds in anyio.run(function, backend=backend).items():
        so_far[name] = min(seconds, so_far.get(name, seconds))


def main() -> None:
    for backend in BACK_ENDS:
        actors: dict[str, float] = {}
        streams: dict[str, float] = {}
        for _ in range(ROUNDS):
            best(time_actors, backend, actors)
            best(time_streams, backend, streams)
        told, asked = streams["tell"] / actors["tell"], actors["ask"] / streams["ask"]
        print(
            f"{backend}: tells/s {TELLS / actors['tell']:9,.0f}, a stream {TELLS / streams['tell']:9,.0f}: "
            f"{told:.2f} times (reach 3)"
        )
        print(
            f"{backend}: ask {1e6 * actors['ask'] / ASKS:.1f} µs, two streams "
            f"{1e6 * streams['ask'] / ASKS:.1f} µs: {asked:.2f} of the time (reach 0.6)"
        )


if __name__ == "__main__":
    main()
