"""Shards with their rate limiter, driven by a test, and a slow twin of their contents."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.actors import ActorDied, ActorSpec, Message, Ref, Request, handles
from actorq.actors.spec import derive_seed
from actorq.replay.chunk import Chunk
from actorq.replay.ids import shard_offset
from actorq.roles.replay.messages import Insert, Version
from actorq.roles.replay.rate_limiter import RateLimiterActor
from actorq.roles.replay.shard import ReplayShard
from tests.actors.world import spec
from tests.replay.chunks import changed, make_chunk

AT_FIRST = Version(0, 0)


class Settled(Message):
    pass


class Crash(Request[Settled]):
    """Never answered."""


class Settle(Request[Settled]):
    """Answered when the priorities told before have been taken over."""


class Mortal(ReplayShard):
    """A shard that crashes when told to."""

    @handles
    async def settle(self, _: Settle) -> Settled:
        return Settled()

    @handles
    async def crash(self, _: Crash) -> Settled:
        raise RuntimeError("told to crash")


class MortalLimiter(RateLimiterActor):
    """A limiter that crashes when told to."""

    @handles
    async def crash(self, _: Crash) -> Settled:
        raise RuntimeError("told to crash")


async def crash(ref: Ref[Any]) -> None:
    """Return when that life is over."""
    with pytest.raises(ActorDied):
        await ref.ask(Crash())


def names_of(shards: int) -> tuple[str, ...]:
    """As a topology names them."""
    return tuple(f"replay.{shard}" for shard in range(shards))


def sharded(
    shards: int,
    *,
    shard: type[ReplayShard] = Mortal,
    limiter: dict[str, Any] | None = None,
    snapshot_every_seconds: float | None = None,
    **config: Any,
) -> list[ActorSpec]:
    """The limiter with these settings, then shards of this `config`."""
    pace = RateLimiterActor.Config(**{"min_size": 1, **(limiter or {})})
    return [
        spec("limiter", MortalLimiter, config=pace, snapshot_every_seconds=snapshot_every_seconds),
        *(
            spec(
                name,
                shard,
                {"limiter": "limiter"},
                shard.Config(**{"capacity": 1000, "min_size": 1, **config}),
                index=index,
                count=shards,
                seed=derive_seed(0, name),
                snapshot_every_seconds=snapshot_every_seconds,
            )
            for index, name in enumerate(names_of(shards))
        ),
    ]


def numbered(transitions: int, start: int, priorities: NDArray[Any] | None = None) -> Chunk:
    """Transitions whose actions are numbers from `start` on: so what is drawn says which it is."""
    chunk = make_chunk(transitions, start=start, frame_shape=(1,))
    return chunk if priorities is None else changed(chunk, priorities=priorities.astype(np.float32))


def insert(transitions: int, start: int = 0, version: Version = AT_FIRST) -> Insert:
    return Insert(numbered(transitions, start), version)


class Twin:
    """What all shards hold, as plain lists, and what each draw's probability must be.

    It knows of a shard's weight what the learner knows: that of its last answer.
    """

    def __init__(self, shards: int, capacity: int, alpha: float, epsilon: float) -> None:
        self._chunks: list[deque[list[float]]] = [deque() for _ in range(shards)]
        """Of each shard, oldest first: raw priorities."""
        self._first = [0] * shards
        self._numbers: list[dict[int, int]] = [{} for _ in range(shards)]
        self._capacity, self._alpha, self._epsilon = capacity, alpha, epsilon
        self._told = [1.0] * shards

    def add(self, shard: int, chunk: Chunk) -> None:
        """First in, first out, by whole chunks."""
        held = self._chunks[shard]
        while sum(map(len, held)) + len(chunk) > self._capacity:
            self._first[shard] += len(held.popleft())
        first = self._first[shard] + sum(map(len, held))
        held.append([float(priority) for priority in chunk.priorities])
        for offset, number in enumerate(chunk.actions):
            self._numbers[shard][first + offset] = int(number)

    def update(self, ids: NDArray[np.int64], priorities: NDArray[np.float32]) -> int:
        """Returns how many came late."""
        late = 0
        for one, priority in zip(ids.tolist(), priorities.tolist(), strict=True):
            shard, own = _parts(one)
            age = own - self._first[shard]
            if age < 0:
                late += 1
                continue
            for chunk in self._chunks[shard]:
                if age < len(chunk):
                    chunk[age] = priority
                    break
                age -= len(chunk)
        return late

    def number(self, one: int) -> int:
        """The action of a transition, which says which it is."""
        shard, own = _parts(one)
        return self._numbers[shard][own]

    def weights(self, shard: int) -> dict[int, float]:
        """(priority + epsilon)^alpha of all it holds, by the transitions' global ids."""
        raw = [priority for chunk in self._chunks[shard] for priority in chunk]
        first = shard_offset(shard) + self._first[shard]
        return {
            first + age: float((priority + self._epsilon) ** self._alpha) for age, priority in enumerate(raw)
        }

    def exact(self) -> dict[int, float]:
        """p^alpha over the sum of all, by global id: what one tree over all shards would draw with."""
        weights = {
            one: weight for shard in range(len(self._chunks)) for one, weight in self.weights(shard).items()
        }
        total = sum(weights.values())
        return {one: weight / total for one, weight in weights.items()}

    def draw(self) -> dict[int, float]:
        """The probability of each transition at one draw now; the shards tell their weights."""
        told = sum(self._told)
        probabilities = {}
        for shard, share in enumerate(self._told):
            weights = self.weights(shard)
            total = sum(weights.values())
            for one, weight in weights.items():
                probabilities[one] = share / told * weight / total
            self._told[shard] = total
        return probabilities


def _parts(one: int) -> tuple[int, int]:
    """An id's shard, and the id within it."""
    return divmod(one, shard_offset(1))
