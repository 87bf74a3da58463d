"""Index and store together."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from actorq.replay.buffer import ReplayBuffer, make_replay
from actorq.replay.chunk import Batch
from actorq.replay.config import ReplayConfig

from .chunks import changed, make_chunk


def replay_of(sampling: str, *, capacity: int = 100, seed: int = 0) -> ReplayBuffer:
    return make_replay(msgspec.convert({"capacity": capacity, "sampling": sampling}, ReplayConfig), seed=seed)


def arrays(batch: Batch) -> list[np.ndarray[Any, Any]]:
    return [getattr(batch, name) for name in batch.__struct_fields__]


both = pytest.mark.parametrize("sampling", ["prioritized", "uniform"])


@both
def test_a_batch_holds_what_was_put_in(sampling: str) -> None:
    replay = replay_of(sampling)
    for start in range(0, 300, 20):
        assert replay.add(make_chunk(20, start=start, n_step=3)) == range(start, start + 20)
    batch = replay.sample(64, beta=0.4)
    assert (batch.ids >= 200).all()
    np.testing.assert_array_equal(batch.actions, batch.ids)  # frames restart with each chunk's numbers
    np.testing.assert_array_equal(batch.observations[:, 0], batch.ids)
    np.testing.assert_array_equal(batch.next_observations[:, 0], batch.ids + 3)
    assert batch.weights.max() == 1
    assert len(batch) == 64


def test_updates_steer_what_is_drawn() -> None:
    replay = replay_of("prioritized")
    ids = np.array(replay.add(make_chunk(50)))
    replay.update(ids, np.where(ids == 7, 1e6, 0.0))
    batch = replay.sample(32)
    assert np.mean(batch.ids == 7) > 0.9


@both
def test_statistics_count_everything(sampling: str) -> None:
    replay = replay_of(sampling)
    replay.add(make_chunk(60))
    batch = replay.sample(10)
    replay.add(make_chunk(60))
    assert replay.update(batch.ids, np.ones(10)) == 10
    statistics = replay.statistics()
    assert (statistics.size, statistics.capacity, statistics.inserted, statistics.evicted) == (
        60,
        100,
        120,
        60,
    )
    assert (statistics.sampled, statistics.updated, statistics.late) == (10, 10, 10)
    assert statistics.bytes > 60 * 8
    assert statistics.priority_total >= statistics.priority_largest > 0


@both
def test_a_loaded_replay_continues_bit_for_bit(sampling: str) -> None:
    replay = replay_of(sampling)
    for start in range(0, 160, 20):
        replay.add(make_chunk(20, start=start))
    replay.update(replay.sample(30).ids, np.linspace(0, 9, 30))
    other = replay_of(sampling, seed=99)
    other.load_state(replay.state())
    for step in range(20):
        batch, twin = replay.sample(16, beta=0.5), other.sample(16, beta=0.5)
        for array, its in zip(arrays(batch), arrays(twin), strict=True):
            assert array.tobytes() == its.tobytes()
        for each in (replay, other):
            each.update(batch.ids, np.linspace(0, step, 16))
            each.add(make_chunk(7 + step, start=step))
        assert replay.statistics() == other.statistics()


@both
def test_state_is_made_of_plain_data(sampling: str) -> None:
    replay = replay_of(sampling)
    empty = replay.state()
    replay.add(make_chunk(5))

    def check(value: object) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                assert isinstance(key, str)
                check(each)
        else:
            assert isinstance(value, np.ndarray | int | float | str)

    check(replay.state())
    check(empty)
    replay.load_state(empty)
    assert len(replay) == 0


def test_a_refused_chunk_changes_neither_part() -> None:
    replay = replay_of("prioritized")
    replay.add(make_chunk(90))
    before = replay.statistics()
    with pytest.raises(ValueError, match="priorities holds nan"):
        replay.add(changed(make_chunk(20), priorities=np.full(20, np.nan, np.float32)))
    assert replay.statistics() == before
    replay.add(make_chunk(20))


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    large = replay_of("prioritized", capacity=200)
    large.add(make_chunk(150))
    replay = replay_of("prioritized")
    replay.add(make_chunk(10))
    before = replay.statistics()
    with pytest.raises(ValueError, match="don't fit"):
        replay.load_state(large.state())
    with pytest.raises(ValueError, match="kind"):
        replay.load_state(replay_of("uniform").state())
    assert replay.statistics() == before


def test_each_seed_draws_its_own() -> None:
    drawn = []
    for seed in (0, 0, 1):
        replay = replay_of("uniform", seed=seed)
        replay.add(make_chunk(100))
        drawn.append(replay.sample(50).ids.tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_config_names_contradictions_and_anneals() -> None:
    config = ReplayConfig()
    assert list(config.problems()) == []
    assert [config.beta(n) for n in (0, 50_000, 100_000, 10**9)] == pytest.approx([0.4, 0.7, 1.0, 1.0])
    assert ReplayConfig(samples_per_insert=8.0, min_size=500).error_buffer == 4_000
    faulty = {
        "min_size": ReplayConfig(capacity=100, min_size=200),
        "beta_end": ReplayConfig(beta_start=0.6, beta_end=0.5),
        "error_buffer_samples": ReplayConfig(error_buffer_samples=10.0),
    }
    for field, config in faulty.items():
        assert [name for name, _ in config.problems()] == [field]
    assert dict(ReplayConfig(samples_per_insert=8.0, error_buffer_samples=4.0).problems()).keys() == {
        "error_buffer_samples"
    }
    for wrong in ({"capacity": 0}, {"alpha": 2}, {"sampling": "best"}, {"capasity": 5}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, ReplayConfig)


def test_every_setting_is_described_in_the_schema() -> None:
    properties = msgspec.json.schema(ReplayConfig)["$defs"]["ReplayConfig"]["properties"]
    for name, schema in properties.items():
        described = "description" in schema or any("description" in each for each in schema.get("anyOf", ()))
        assert described, name
