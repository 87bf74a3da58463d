"""Prioritized replay: a shard in a process of its own over ipc, and sampling as capacity grows.

`python -m tests.bench.prioritized_replay [shard | capacity]` prints ratios, each the median of rounds in
which both sides take turns. Beside it stand `tests.bench.fed_learner` and `tests.bench.redis_replay`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import anyio

from actorq.actors import ActorSpec
from actorq.replay.buffer import ReplayBuffer as Buffer
from actorq.replay.chunk import Chunk
from actorq.replay.memory_store import MemoryStore
from actorq.replay.sampling.prioritized import PrioritizedIndex
from actorq.roles.replay.messages import Insert, Version
from actorq.roles.replay.shard import ReplayShard

from ._reading import READERS, Reading, reading
from .processes import processes
from .replay import ADD, BATCH, atari_chunk, fill, ratio, small_chunk

ROUNDS, SECONDS = 5, 2.0
CAPACITY = 20_000
AT_FIRST = Version(0, 0)
WRITERS = 8


def report(name: str, ratios: list[float], reach: str) -> None:
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"{name}: {middle:.2f} ({low:.2f}-{high:.2f}), to reach {reach}", flush=True)


# One memory shard over ipc.


def per_second(work: Callable[[], object], amount: int) -> float:
    """How many a second, where each call makes `amount`."""
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        work()
        calls += 1
    return amount * calls / (time.perf_counter() - began)


class Rates:
    """What goes in and out of one shard elsewhere, by the port and the readers of an actor here."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks

    async def fill(self) -> None:
        for turn in range(CAPACITY // ADD + 2):
            await self._insert(turn % len(self._chunks))

    async def inserted(self) -> float:
        """Transitions a second, from explorers who each have one chunk under way."""
        return ADD * await _calls_per_second(self._insert, WRITERS)

    async def sampled(self) -> float:
        """Transitions a second, to two learners."""
        return BATCH * await _calls_per_second(self._draw, READERS)

    async def _insert(self, which: int) -> None:
        await Reading.me.replay[0].ask(Insert(self._chunks[which], AT_FIRST))

    async def _draw(self, learner: int) -> None:
        await Reading.me.readers[learner].draw(BATCH, 1, AT_FIRST)


async def _calls_per_second(work: Callable[[int], Awaitable[None]], beside: int) -> float:
    """Of `work`, so many calls of which are under way at any time."""
    calls, began = 0, time.perf_counter()

    async def again(one: int) -> None:
        nonlocal calls
        while time.perf_counter() - began < SECONDS:
            await work(one)
            calls += 1

    async with anyio.create_task_group() as tasks:
        for one in range(beside):
            tasks.start_soon(again, one)
    return calls / (time.perf_counter() - began)


async def shard() -> None:
    """A process of its own, full, against the same replay called directly."""
    bare = Buffer(MemoryStore(CAPACITY), PrioritizedIndex(CAPACITY))
    fill(bare, CAPACITY, atari_chunk)
    chunks = [atari_chunk(seed) for seed in range(WRITERS)]
    turn = 0

    def add() -> None:
        nonlocal turn
        turn += 1
        bare.add(chunks[turn % WRITERS])

    config = ReplayShard.Config(capacity=CAPACITY, min_size=1)
    specs = [ActorSpec(name="replay", cls=ReplayShard, config=config, node="replay"), reading("replay")]
    ins, outs = [], []
    rates = Rates(chunks)
    async with processes("asyncio", specs):
        await rates.fill()
        for _ in range(ROUNDS):
            ours, theirs = await rates.inserted(), per_second(add, ADD)
            ins.append(ours / theirs)
            print(f"  in: {ours:,.0f} transitions/s, called directly {theirs:,.0f}")
            ours, theirs = await rates.sampled(), per_second(lambda: bare.sample(BATCH, 0.4), BATCH)
            outs.append(ours / theirs)
            print(f"  out: {ours:,.0f} transitions/s, called directly {theirs:,.0f}")
    report("one memory shard over ipc against calls, 84x84x4: transitions in", ins, ">= 0.5")
    report("one memory shard over ipc against calls, 84x84x4: transitions out", outs, ">= 0.5")


# Sampling as capacity grows.


def capacity() -> None:
    small, large = (Buffer(MemoryStore(size), PrioritizedIndex(size)) for size in (10_000, 1_000_000))
    fill(small, 10_000, small_chunk)
    fill(large, 1_000_000, small_chunk)
    ratios = [
        ratio(lambda: large.sample(BATCH, 0.4), lambda: small.sample(BATCH, 0.4), turns=5)
        for _ in range(ROUNDS)
    ]
    report(f"sampling {BATCH} of 1,000,000 against of 10,000", ratios, "<= 1.6")


def main(names: list[str]) -> None:
    parts: dict[str, Callable[[], None]] = {
        "shard": lambda: anyio.run(shard),
        "capacity": capacity,
    }
    for name in names or parts:
        parts[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
