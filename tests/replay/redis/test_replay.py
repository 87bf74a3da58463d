"""A replay in a real Redis against a naive twin that keeps the chunks as they came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actorq.replay.chunk import Chunk
from actorq.replay.config import ReplayConfig
from actorq.replay.redis.format import Keys
from actorq.replay.redis.reader import RedisReader
from actorq.replay.redis.replay import RedisReplay
from actorq.replay.redis.store import RedisStore
from tests.replay.chunks import make_chunk

from .redis_servers import LittleRedis

CONFIG = ReplayConfig(capacity=50, alpha=1.0, epsilon=1e-30, min_size=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LittleRedis]:
    made = LittleRedis(tmp_path_factory.mktemp("redis"))
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def empty(server: LittleRedis) -> None:
    server.client.flushall()


def opened(server: LittleRedis, config: ReplayConfig = CONFIG, *, afresh: bool = False) -> RedisReplay:
    replay = RedisReplay(config, RedisStore(server.place()))
    replay.adopt(replay.read(afresh=afresh))
    return replay


def insert(replay: RedisReplay, *chunks: Chunk) -> list[range]:
    write = replay.plan(chunks)
    replay.store.write(write)
    replay.commit(write)
    return [record.ids for record in write.records]


class RedisAgainstNaiveTwin(RuleBasedStateMachine):
    """The twin is a dict from id to (chunk, position in it), and one from id to priority."""

    server: LittleRedis

    def __init__(self) -> None:
        super().__init__()
        self.server.client.flushall()
        self.replay = opened(self.server)
        self.reader = RedisReader()
        self.twin: dict[int, tuple[Chunk, int]] = {}
        self.priorities: dict[int, float] = {}
        self.saved: tuple[Any, dict[int, float]] | None = None
        self.inserted = 0

    def teardown(self) -> None:
        self.replay.store.close()
        self.reader.close()

    @rule(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4), n_step=st.integers(1, 5))
    def add(self, sizes: Sequence[int], n_step: int) -> None:
        chunks = [make_chunk(size, start=self.inserted, stack=2, n_step=n_step) for size in sizes]
        added = insert(self.replay, *chunks)
        for ids, chunk in zip(added, chunks, strict=False):
            assert ids == range(self.inserted, self.inserted + len(chunk))
            self.inserted = ids.stop
            self.twin |= {i: (chunk, position) for position, i in enumerate(ids)}
            self.priorities |= dict(zip(ids, chunk.priorities.astype(float).tolist(), strict=True))
        oldest = next(i for i in range(self.inserted) if i in self.replay._contents.held.ids)
        for i in [i for i in self.twin if i < oldest]:
            del self.twin[i], self.priorities[i]
        assert self.twin[oldest][1] == 0, "whole chunks leave"

    @precondition(lambda self: self.twin)
    @rule(count=st.integers(1, 20), data=st.data())
    def draw(self, count: int, data: st.DataObject) -> None:
        drawn = self.replay.draw(count)
        got = self.reader.cached([drawn]) if data.draw(st.booleans()) else None
        got = got or self.reader.read([drawn])
        total = sum(self.priorities.values())
        for row, i in enumerate(drawn.ids.tolist()):
            chunk, position = self.twin[i]
            np.testing.assert_array_equal(got.observations[row], chunk.frames[chunk.index[position]])
            np.testing.assert_array_equal(
                got.next_observations[row], chunk.frames[chunk.next_index[position]]
            )
            assert got.actions[row] == chunk.actions[position]
            assert got.returns[row] == chunk.returns[position]
            assert got.discounts[row] == chunk.discounts[position]
            np.testing.assert_allclose(drawn.probabilities[row], self.priorities[i] / total, rtol=1e-9)

    @precondition(lambda self: self.inserted)
    @rule(data=st.data())
    def update(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.integers(0, self.inserted - 1), max_size=9, unique=True))
        priorities = np.arange(1, len(ids) + 1, dtype=np.float32)
        late = self.replay.update(np.array(ids, np.int64), priorities)
        assert late == sum(i not in self.twin for i in ids)
        held = zip(ids, priorities.astype(float).tolist(), strict=True)
        self.priorities |= {i: priority for i, priority in held if i in self.twin}

    @rule()
    def save(self) -> None:
        self.saved = (self.replay.state(), dict(self.priorities))

    @rule(with_state=st.booleans())
    def die_and_come_back(self, with_state: bool) -> None:
        self.replay.store.close()
        self.replay = opened(self.server)
        self.priorities = {i: float(chunk.priorities[position]) for i, (chunk, position) in self.twin.items()}
        if with_state and self.saved is not None:
            state, priorities = self.saved
            self.replay.load_state(state)
            self.priorities |= {i: p for i, p in priorities.items() if i in self.twin}

    @invariant()
    def holds_the_same(self) -> None:
        held = self.replay._contents.held
        assert list(held.ids) == list(self.twin)
        assert len(self.replay) <= CONFIG.capacity
        np.testing.assert_allclose(self.replay.total, sum(self.priorities.values()), rtol=1e-9)

    @invariant()
    def redis_holds_no_more_than_that_and_a_few_evicted_chunks(self) -> None:
        keys = Keys(self.server.place().shard)
        records = self.replay._contents.held.records
        held = {key for record in records for key in keys.values(record.name)}
        lying = set(self.server.keys()) - {keys.owner, keys.list}
        assert held <= lying
        assert len(lying - held) <= 2 * len(self.replay.store._evicted)


def test_redis_against_naive_twin(server: LittleRedis) -> None:
    RedisAgainstNaiveTwin.server = server
    case = RedisAgainstNaiveTwin.TestCase
    case.settings = settings(max_examples=12, stateful_step_count=20)
    case("runTest").runTest()
