"""Replay against cpprb and against numpy's own gather: `python -m tests.bench.replay`.

Each ratio is the median of several, taken in turns in one process, so that a busy machine slows both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actorq.replay.buffer import ReplayBuffer
from actorq.replay.chunk import Chunk
from actorq.replay.memory_store import MemoryStore
from actorq.replay.sampling.prioritized import PrioritizedIndex

ADD, BATCH = 64, 256
ATARI = (84, 84)


def main() -> None:
    """Print a table: what was measured, the ratio, and what it should reach."""
    lines = []
    for capacity in (100_000, 1_000_000):
        mine, theirs, index = cycles(capacity)
        whole, bare = ratio(theirs, mine), ratio(theirs, index)
        what = f"cycle of add {ADD}, sample {BATCH}, update {BATCH} at {capacity:,}"
        lines.append((f"{what}: cpprb / replay", whole, "at least 3"))
        lines.append((f"{what}: cpprb / its index alone", bare, ""))
    small = ReplayBuffer(MemoryStore(20_000), PrioritizedIndex(20_000))
    fill(small, 20_000, lambda seed: atari_chunk(seed))
    lines.append(
        ("gather of 256 x 4x84x84, twice: numpy / replay's whole sample", gather(small), "at least 0.9")
    )
    per_transition = small.statistics().bytes / small.statistics().size
    lines.append(
        ("bytes a transition / bytes of a frame (84x84, stack 4, n 3)", per_transition / 7056, "at most 1.15")
    )
    for what, value, reach in lines:
        print(f"{what:<75}{value:>8.2f}   {reach}")


def ratio(
    slow: Callable[[], object], fast: Callable[[], object], *, calls: int = 200, turns: int = 25
) -> float:
    """How many times as long ``slow`` takes."""
    return statistics.median(seconds(slow, calls) / seconds(fast, calls) for _ in range(turns))


def seconds(work: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - start


def cycles(capacity: int) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    """A cycle of the whole replay, of cpprb's, and of the index alone; each on a full buffer."""
    rng = np.random.default_rng(0)
    chunk = small_chunk(0)
    priorities = rng.random(BATCH, dtype=np.float32)
    replay = ReplayBuffer(MemoryStore(capacity), PrioritizedIndex(capacity))
    fill(replay, capacity, small_chunk)

    def mine() -> None:
        replay.add(chunk)
        batch = replay.sample(BATCH, 0.4)
        replay.update(batch.ids, priorities)

    theirs = cpprb_cycle(capacity, rng, priorities)
    index = PrioritizedIndex(capacity)
    index.add(range(capacity), rng.random(capacity))
    newest = capacity

    def alone() -> None:
        nonlocal newest
        index.remove(range(newest - capacity, newest - capacity + ADD))
        index.add(range(newest, newest + ADD), chunk.priorities)
        newest += ADD
        ids, _ = index.sample(BATCH, rng)
        index.update(ids, priorities)

    return mine, theirs, alone


def cpprb_cycle(
    capacity: int, rng: np.random.Generator, priorities: NDArray[np.float32]
) -> Callable[[], object]:
    import cpprb

    fields = {
        "obs": {"shape": 4},
        "next_obs": {"shape": 4},
        "act": {"dtype": np.int64},
        "rew": {},
        "discount": {},
    }
    buffer = cpprb.PrioritizedReplayBuffer(capacity, fields, alpha=0.6)

    def transitions(count: int) -> dict[str, NDArray[Any]]:
        return {
            "obs": rng.random((count, 4), dtype=np.float32),
            "next_obs": rng.random((count, 4), dtype=np.float32),
            "act": np.zeros(count, np.int64),
            "rew": np.ones(count, np.float32),
            "discount": np.ones(count, np.float32),
            "priorities": rng.random(count),
        }

    while buffer.get_stored_size() < capacity:
        buffer.add(**transitions(10_000))
    more = transitions(ADD)

    def cycle() -> None:
        buffer.add(**more)
        sample = buffer.sample(BATCH, beta=0.4)
        ids, _ = sample["indexes"].copy(), sample["weights"].copy()  # it writes them anew at the next call
        buffer.update_priorities(ids, priorities)

    return cycle


def gather(replay: ReplayBuffer) -> float:
    """Time of numpy's gather of as many stacks, s_t and s_{t+n}, over that of `ReplayBuffer.sample`."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (20_000, *ATARI), np.uint8)
    rows = [rng.integers(0, 20_000 - 8, (BATCH, 1)) + np.arange(4) for _ in range(64)]
    turn = 0

    def numpys() -> object:
        nonlocal turn
        turn += 1
        some = rows[turn % len(rows)]
        return frames[some], frames[some + 3]

    return ratio(numpys, lambda: replay.sample(BATCH, 0.4), calls=10, turns=25)


def fill(replay: ReplayBuffer, capacity: int, chunk: Callable[[int], Chunk]) -> None:
    chunks = [chunk(seed) for seed in range(8)]
    for i in range(capacity // ADD + 2):
        replay.add(chunks[i % len(chunks)])


def small_chunk(seed: int) -> Chunk:
    return make_chunk(np.random.default_rng(seed).random((ADD + 3, 4), dtype=np.float32), stack=1, seed=seed)


def atari_chunk(seed: int) -> Chunk:
    frames = np.random.default_rng(seed).integers(0, 255, (ADD + 3 + 3, *ATARI), np.uint8)
    return make_chunk(frames, stack=4, seed=seed)


def make_chunk(frames: NDArray[Any], *, stack: int, seed: int) -> Chunk:
    """One environment's stretch of 64 transitions with n = 3."""
    index = (np.arange(ADD)[:, None] + np.arange(stack)).astype(np.int32)
    return Chunk(
        frames=frames,
        index=index,
        next_index=index + np.int32(3),
        actions=np.zeros(ADD, np.int64),
        returns=np.ones(ADD, np.float32),
        discounts=np.ones(ADD, np.float32),
        priorities=np.random.default_rng(seed).random(ADD, dtype=np.float32),
    )


if __name__ == "__main__":
    main()
