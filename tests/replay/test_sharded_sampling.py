"""Sharded sampling: draws have the probability with which they were actually drawn, at rest and while all
changes.

Real shards answer a real reader; a naive twin of all of them says what each probability must be. Chi-square
is over single transitions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2  # type: ignore[import-untyped]

from actorq.actors import Actor, Group
from actorq.replay.chunk import Batch
from actorq.replay.redis.config import RedisConfig
from actorq.roles.replay.client import ReplayClient
from actorq.roles.replay.messages import DrawSample, Insert, UpdatePriorities
from tests.actors.world import TRANSPORTS, World, fresh, spec
from tests.roles.actors import Watch
from tests.roles.replay.shards import AT_FIRST, Settle, Twin, names_of, numbered, sharded

from .redis.redis_servers import LittleRedis

pytestmark = pytest.mark.anyio

DRAWS, BATCH = 1_000_000, 10_000
CAPACITY, CHUNK, ALPHA, EPSILON = 200, 20, 0.6, 1e-3


class Sharded:
    """Shards, their twin, and a learner's reader, each told the same."""

    def __init__(self, refs: Group[Any], reader: ReplayClient, watch: Watch, seed: int) -> None:
        self._refs, self._reader, self._watch = refs, reader, watch
        self.twin = Twin(len(refs), CAPACITY, ALPHA, EPSILON)
        self.rng = np.random.default_rng(seed)
        self._made = self.late = 0

    async def add(self, shard: int) -> None:
        """A chunk whose priorities are of the shard's own magnitude, spread over two more."""
        priorities = (shard + 1) * 10 ** self.rng.uniform(-1, 1, CHUNK)
        chunk = numbered(CHUNK, self._made, priorities)
        self._made += CHUNK
        self.twin.add(shard, chunk)
        await self._refs[shard].ask(Insert(chunk, AT_FIRST))

    async def update(self, ids: NDArray[np.int64]) -> None:
        """New priorities, which have arrived when this returns; the shards count those that are late."""
        priorities = (10 ** self.rng.uniform(-2, 1, len(ids))).astype(np.float32)
        self.late += self.twin.update(ids, priorities)
        await self._reader.update(ids, priorities)
        await self._refs.all().ask(Settle())
        assert self._watch.counts.get("late_priorities", 0) == self.late

    async def draw(self) -> tuple[Batch, dict[int, float]]:
        """A batch, and every transition's probability by the twin."""
        return await self._reader.draw(BATCH, 1, AT_FIRST), self.twin.draw()


class Reading(Actor):
    """Lends its reader."""

    replay: Group[DrawSample | UpdatePriorities]
    me: ClassVar[Reading]

    async def on_start(self) -> None:
        self.reader = ReplayClient(self.replay, self.seed, self)
        type(self).me = self


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LittleRedis]:
    server = LittleRedis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where shards keep what they hold, as their settings say it."""
    if request.param == "memory":
        return {}
    server: LittleRedis = request.getfixturevalue("redis_server")
    return {"store": "redis", "redis": RedisConfig(url=server.url)}


@asynccontextmanager
async def running(shards: int, seed: int, **config: Any) -> AsyncIterator[Sharded]:
    """Shard k holds (k + 1) chunks to begin with."""
    world, watch, reading = World(TRANSPORTS["inproc"], 1), Watch(), fresh(Reading)
    specs = sharded(shards, capacity=CAPACITY, alpha=ALPHA, epsilon=EPSILON, **config)
    reads = spec("reading", reading, {"replay": names_of(shards)}, seed=seed)
    async with world.system(*specs, reads, reports=watch) as system:
        replay = Sharded(system.group("replay"), reading.me.reader, watch, seed)
        for shard in range(shards):
            for _ in range(shard + 1):
                await replay.add(shard)
        yield replay


def counted(ids: NDArray[np.int64], into: dict[int, int]) -> None:
    for one, times in zip(*np.unique(ids, return_counts=True), strict=True):
        into[int(one)] = into.get(int(one), 0) + int(times)


def fits(observed: dict[int, int], expected: dict[int, float]) -> bool:
    """Whether chi-square lets counts pass for draws of these expected numbers; those below 5 are one."""
    found = np.array([observed.get(one, 0) for one in expected], np.float64)
    means = np.array(list(expected.values()))
    small = means < 5.0
    if small.any():
        found = np.append(found[~small], found[small].sum())
        means = np.append(means[~small], means[small].sum())
    statistic = ((found - means) ** 2 / means).sum()
    return bool(statistic < chi2.ppf(1 - 1e-4, len(means) - 1))


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
async def test_at_rest_shards_draw_as_one_tree_over_all(shards: int, store: dict[str, Any]) -> None:
    observed: dict[int, int] = {}
    async with running(shards, seed=shards, **store) as replay:
        await replay.draw()  # what shards weigh, the first answers tell
        exact = replay.twin.exact()
        for _ in range(DRAWS // BATCH):
            batch, _ = await replay.draw()
            counted(batch.ids, observed)
            np.testing.assert_allclose(batch.probabilities, [exact[one] for one in batch.ids.tolist()], 1e-9)
    assert set(observed) <= set(exact)
    assert fits(observed, {one: DRAWS * probability for one, probability in exact.items()})
    if shards > 1:  # equal shares are told from exact ones
        weights = [replay.twin.weights(shard) for shard in range(shards)]
        equal = {one: w / sum(each.values()) / shards for each in weights for one, w in each.items()}
        assert not fits(observed, {one: DRAWS * probability for one, probability in equal.items()})


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
async def test_while_all_changes_each_draw_has_the_probability_it_comes_with(
    shards: int, store: dict[str, Any]
) -> None:
    """Chunks come in and push others out, priorities come back, some of them late, between any two draws."""
    observed: dict[int, int] = {}
    expected: dict[int, float] = {}
    async with running(shards, seed=10 + shards, **store) as replay:
        old, _ = await replay.draw()
        for turn in range(DRAWS // BATCH):
            batch, probabilities = await replay.draw()
            counted(batch.ids, observed)
            for one, probability in probabilities.items():
                expected[one] = expected.get(one, 0.0) + BATCH * probability
            mine = np.array([probabilities[one] for one in batch.ids.tolist()])
            np.testing.assert_allclose(batch.probabilities, mine, 1e-9)
            numbers = [replay.twin.number(one) for one in batch.ids[::20].tolist()]
            assert batch.actions[::20].tolist() == numbers
            await replay.add(int(replay.rng.integers(0, shards)))
            await replay.update(replay.rng.choice(old.ids, 10 * shards))
            if turn % 25 == 0:
                old = batch
    assert set(observed) <= set(expected)
    assert fits(observed, expected)
    assert replay.late > 0


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
async def test_importance_weights_are_those_of_the_probabilities_really_drawn_with(
    beta: float, store: dict[str, Any]
) -> None:
    """(min P / P)^beta; the weights themselves are float32, what they are made of agrees to 1e-9."""
    async with running(3, seed=5, beta_start=beta, beta_end=beta, **store) as replay:
        for _ in range(20):
            batch, probabilities = await replay.draw()
            mine = np.array([probabilities[one] for one in batch.ids.tolist()])
            exact = (mine.min() / mine) ** beta
            made_of = (batch.probabilities.min() / batch.probabilities) ** beta
            np.testing.assert_allclose(made_of, exact, 1e-9)
            np.testing.assert_allclose(batch.weights, exact, float(np.finfo(np.float32).eps))
            await replay.add(1)
            await replay.update(batch.ids[:50])
