"""Replay through Redis on a unix socket, against raw redis-py and against a key for each transition.

`python -m tests.bench.redis_replay [raw | naive]` prints ratios, each the median of rounds in which both
sides take turns on the same server. Raw is pipelined SET and GET of as many bytes, and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
import redis
from numpy.typing import NDArray

from actorq.actors import ActorSpec
from actorq.replay.chunk import Batch, Chunk
from actorq.roles.replay.messages import WhereIsRedis
from actorq.roles.replay.redis_server import RedisServer
from actorq.roles.replay.shard import ReplayShard

from ._reading import reading
from .prioritized_replay import CAPACITY, ROUNDS, WRITERS, Rates, per_second, report
from .processes import processes
from .replay import ADD, BATCH, atari_chunk, small_chunk

FRAMES_READ = 7  # stacks of 4, 3 steps apart


@asynccontextmanager
async def shard_in_redis() -> AsyncIterator[redis.Redis]:
    """One shard in a process of its own, the server it keeps its chunks in, and a client of ours for that."""
    config = ReplayShard.Config(capacity=CAPACITY, min_size=1, store="redis")
    specs = [
        ActorSpec(name="redis", cls=RedisServer, config=RedisServer.Config(), node="replay"),
        ActorSpec(name="replay", cls=ReplayShard, config=config, node="replay", ports={"redis": ("redis",)}),
        reading("replay"),
    ]
    async with processes("asyncio", specs) as system:
        address = await system.ref("redis").ask(WhereIsRedis())
        with redis.Redis.from_url(address.url) as client:
            yield client


class Raw:
    """Bytes that are set and got, as many as go in and out of the shard."""

    def __init__(self, client: redis.Redis, chunk: Chunk) -> None:
        self._client, self._keys = client, CAPACITY // ADD
        fields = [getattr(chunk, name) for name in chunk.__struct_fields__ if name != "frames"]
        self._rows, self._frames = bytes(sum(field.nbytes for field in fields)), chunk.frames.tobytes()
        self._got = bytes(FRAMES_READ * chunk.frames[0].nbytes)
        self._rng, self._turn = np.random.default_rng(0), 0
        for key in range(8 * BATCH):
            client.set(f"got:{key}", self._got)

    def set(self) -> None:
        """As many chunks as wait for the shard's writer at a time."""
        pipeline = self._client.pipeline(transaction=False)
        for _ in range(WRITERS):
            key, self._turn = self._turn % self._keys, self._turn + 1
            pipeline.set(f"rows:{key}", self._rows)
            pipeline.set(f"frames:{key}", self._frames)
        pipeline.execute()

    def get(self) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for key in self._rng.integers(0, 8 * BATCH, BATCH).tolist():
            pipeline.get(f"got:{key}")
        pipeline.execute()


async def raw() -> None:
    chunks = [atari_chunk(seed) for seed in range(WRITERS)]
    rates, ins, outs = Rates(chunks), [], []
    async with shard_in_redis() as client:
        await rates.fill()
        bare = Raw(client, chunks[0])
        for _ in range(ROUNDS):
            ours, theirs = await rates.inserted(), per_second(bare.set, WRITERS * ADD)
            ins.append(ours / theirs)
            print(f"  in: {ours:,.0f} transitions/s, raw SET {theirs:,.0f}")
            ours, theirs = await rates.sampled(), per_second(bare.get, BATCH)
            outs.append(ours / theirs)
            print(f"  out: {ours:,.0f} transitions/s, raw GET {theirs:,.0f}")
    report("through Redis against raw SET of the same bytes, 84x84x4: transitions in", ins, ">= 0.7")
    report("through Redis against raw GET of the same bytes, 84x84x4: transitions out", outs, ">= 0.7")


class KeyForEach:
    """The usual design: each transition a key, whole with both observations, and a sum tree in the client."""

    def __init__(self, client: redis.Redis, chunk: Chunk, alpha: float = 0.6) -> None:
        self._client, self._rng, self._beta = client, np.random.default_rng(0), 0.4
        frame = chunk.frames[0]
        self._row = np.dtype(
            [
                ("observation", frame.dtype, frame.shape),
                ("action", np.int64),
                ("return", np.float32),
                ("discount", np.float32),
                ("next_observation", frame.dtype, frame.shape),
            ]
        )
        size = 1 << (CAPACITY - 1).bit_length()
        self._tree = np.zeros(2 * size)
        self._tree[size : size + CAPACITY] = self._rng.random(CAPACITY) ** alpha
        for node in range(size - 1, 0, -1):
            self._tree[node] = self._tree[2 * node] + self._tree[2 * node + 1]
        self._size = size
        self._fill(chunk)

    def _fill(self, chunk: Chunk) -> None:
        rows = np.zeros(len(chunk), self._row)
        rows["observation"] = chunk.frames[chunk.index[:, 0]]
        rows["next_observation"] = chunk.frames[chunk.next_index[:, 0]]
        for name in ("action", "return", "discount"):
            rows[name] = getattr(chunk, name + "s")
        pipeline = self._client.pipeline(transaction=False)
        for key in range(CAPACITY):
            pipeline.set(f"transition:{key}", rows[key % len(rows)].tobytes())
        pipeline.execute()

    def sample(self) -> Batch:
        leaves = self._leaves()
        pipeline = self._client.pipeline(transaction=False)
        for leaf in leaves.tolist():
            pipeline.get(f"transition:{leaf}")
        values: list[Any] = pipeline.execute()
        rows = np.array([np.frombuffer(value, self._row)[0] for value in values])
        probabilities = self._tree[self._size + leaves] / self._tree[1]
        weights = (probabilities.min() / probabilities) ** self._beta
        return Batch(
            ids=leaves,
            probabilities=probabilities,
            observations=rows["observation"],
            actions=rows["action"],
            returns=rows["return"],
            discounts=rows["discount"],
            next_observations=rows["next_observation"],
            weights=weights.astype(np.float32),
        )

    def _leaves(self) -> NDArray[np.int64]:
        """Down the tree, all draws of the batch together."""
        nodes, rest = np.ones(BATCH, np.int64), self._rng.random(BATCH) * self._tree[1]
        while nodes[0] < self._size:
            left = self._tree[2 * nodes]
            right = rest >= left
            rest -= np.where(right, left, 0.0)
            nodes = 2 * nodes + right
        return np.minimum(nodes - self._size, CAPACITY - 1)


async def naive() -> None:
    chunks = [small_chunk(seed) for seed in range(WRITERS)]
    rates, ratios = Rates(chunks), []
    async with shard_in_redis() as client:
        await rates.fill()
        theirs = KeyForEach(client, chunks[0])
        for _ in range(ROUNDS):
            ours, other = await rates.sampled() / BATCH, per_second(theirs.sample, 1)
            ratios.append(ours / other)
            print(f"  {ours:,.0f} batches of {BATCH} a second, a key for each transition {other:,.0f}")
    report("through Redis against a key for each transition, small observations", ratios, ">= 5")


def main(names: list[str]) -> None:
    parts: dict[str, Callable[[], Any]] = {"raw": raw, "naive": naive}
    for name in names or parts:
        anyio.run(parts[name])


if __name__ == "__main__":
    main(sys.argv[1:])
