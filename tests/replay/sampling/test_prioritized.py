"""The prioritized index against a naive twin, and its draws against the exact distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scipy.stats import chisquare  # type: ignore[import-untyped]

from actorq.replay.sampling.prioritized import PrioritizedIndex, importance_weights
from actorq.replay.sampling.uniform import UniformIndex

ALPHA, EPSILON = 0.6, 1e-3
priorities = st.floats(0.0, 2.0**100, width=32)


class IndexAgainstNaiveTwin(RuleBasedStateMachine):
    """The twin is a dict from id to p^alpha."""

    CAPACITY = 70  # more than eight leaves, eight nodes, and not a multiple of either

    def __init__(self) -> None:
        super().__init__()
        self.index = PrioritizedIndex(self.CAPACITY, alpha=ALPHA, epsilon=EPSILON)
        self.twin: dict[int, float] = {}
        self.next_id = 0

    @rule(new=st.lists(priorities, min_size=1, max_size=40))
    def add(self, new: list[float]) -> None:
        oldest = self.next_id - len(self.twin)
        excess = max(0, len(self.twin) + len(new) - self.CAPACITY)
        self.index.remove(range(oldest, oldest + excess))
        for i in range(oldest, oldest + excess):
            del self.twin[i]
        self.index.add(range(self.next_id, self.next_id + len(new)), new)
        for priority in new:
            self.twin[self.next_id] = (priority + EPSILON) ** ALPHA
            self.next_id += 1

    @precondition(lambda self: self.next_id > 0)
    @rule(data=st.data())
    def update(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.tuples(st.integers(0, self.next_id - 1), priorities), max_size=30))
        ids = np.array([i for i, _ in chosen], np.int64)
        late = self.index.update(ids, np.array([p for _, p in chosen]))
        assert late == sum(i not in self.twin for i, _ in chosen)
        for i, priority in chosen:
            if i in self.twin:
                self.twin[i] = (priority + EPSILON) ** ALPHA

    @precondition(lambda self: self.next_id > 0)
    @rule(wrong=st.sampled_from([np.nan, np.inf, -1.0, 1e39]), where=st.integers(0, 3))
    def refuse(self, wrong: float, where: int) -> None:
        ids = np.full(4, self.next_id - 1)
        values = np.ones(4)
        values[where] = wrong
        with pytest.raises(ValueError, match="a priority is"):
            self.index.update(ids, values)

    @precondition(lambda self: self.twin)
    @rule(count=st.integers(1, 50), seed=st.integers(0, 2**32))
    def sample(self, count: int, seed: int) -> None:
        ids, probabilities = self.index.sample(count, np.random.default_rng(seed))
        total = sum(self.twin.values())
        np.testing.assert_allclose(probabilities, [self.twin[i] / total for i in ids.tolist()], rtol=1e-12)

        # Each draw lies where its stratum's target falls among the values in slot order.
        uniforms = np.random.default_rng(seed).random(count)
        targets = (np.arange(count) + uniforms) / count * total
        slots = sorted(self.twin, key=lambda i: i % self.CAPACITY)
        ends = np.cumsum([self.twin[i] for i in slots])
        for i, target in zip(ids.tolist(), targets, strict=True):
            end = ends[slots.index(i)]
            slack = 1e-12 * total
            assert end - self.twin[i] - slack <= target <= end + slack

    @rule()
    def save_and_load(self) -> None:
        state = self.index.state()
        self.index = PrioritizedIndex(self.CAPACITY, alpha=ALPHA, epsilon=EPSILON)
        self.index.load_state(state)

    @invariant()
    def totals_agree(self) -> None:
        assert len(self.index) == len(self.twin)
        assert self.index.total == pytest.approx(sum(self.twin.values()), rel=1e-12, abs=0)
        assert self.index.largest == pytest.approx(max(self.twin.values(), default=0.0), rel=1e-12)


TestIndexAgainstNaiveTwin = IndexAgainstNaiveTwin.TestCase
TestIndexAgainstNaiveTwin.settings = settings(max_examples=60, stateful_step_count=30)


def counts_of(index: PrioritizedIndex | UniformIndex, size: int, *, batch: int, draws: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    ids = np.concatenate([index.sample(batch, rng)[0] for _ in range(draws // batch)])
    return np.bincount(ids, minlength=size)


@pytest.mark.parametrize("batch", [1, 4])
def test_draws_follow_the_exact_distribution(batch: int) -> None:
    size = 300
    raw = np.random.default_rng(3).random(size) ** 4
    index = PrioritizedIndex(size, alpha=0.7, epsilon=1e-3)
    index.add(range(size), raw)
    exact = (raw + 1e-3) ** 0.7
    expected = exact / exact.sum() * 40_000
    # Strata lower the variance, so larger batches only pass more easily: p-values tend to 1.
    assert chisquare(counts_of(index, size, batch=batch, draws=40_000), expected).pvalue > 0.01


def test_uniform_draws_follow_the_uniform_distribution() -> None:
    index = UniformIndex(300)
    index.add(range(300), np.zeros(300))
    assert chisquare(counts_of(index, 300, batch=8, draws=40_000)).pvalue > 0.01


def test_a_batch_holds_each_id_as_often_as_its_share_within_one() -> None:
    index = PrioritizedIndex(1_000, alpha=1.0, epsilon=1e-9)
    raw = np.random.default_rng(0).random(1_000)
    raw[10] = 300.0
    index.add(range(1_000), raw)
    ids, probabilities = index.sample(512, np.random.default_rng(0))
    expected = 512 * probabilities[ids == 10][0]
    assert abs(np.sum(ids == 10) - expected) <= 2
    assert (np.diff(ids) >= 0).all()


def test_sums_do_not_drift() -> None:
    rng = np.random.default_rng(0)
    index = PrioritizedIndex(5_000)
    index.add(range(5_000), rng.random(5_000))
    for _ in range(400):
        index.update(rng.integers(0, 5_000, 256), rng.random(256) * 10.0 ** rng.integers(-30, 30, 256))
    index.update(np.arange(5_000), np.ones(5_000))
    fresh = PrioritizedIndex(5_000)
    fresh.add(range(5_000), np.ones(5_000))
    assert index.total == fresh.total, "tiny values must come back whole after huge ones"


def test_last_of_a_doubled_id_stays() -> None:
    index = PrioritizedIndex(10, alpha=1.0, epsilon=1e-6)
    index.add(range(2), [1.0, 1.0])
    index.update(np.array([1, 0, 1]), [5.0, 2.0, 7.0])
    assert index.total == pytest.approx(9.0, rel=1e-5)


def test_a_refused_call_changes_nothing() -> None:
    index = PrioritizedIndex(10)
    index.add(range(4), [1.0, 2.0, 3.0, 4.0])
    before = index.state()["values"].tobytes(), index.total
    for ids, values, message in [
        ([0, 1], [9.0, np.nan], "a priority is nan"),
        ([0, 4], [9.0, 9.0], r"id 4 was never assigned: ids so far are 0\.\.3"),
        ([0, -1], [9.0, 9.0], "id -1 was never assigned"),
        ([0, 1], [9.0], "one for each"),
    ]:
        with pytest.raises(ValueError, match=message):
            index.update(np.array(ids), values)
    with pytest.raises(ValueError, match="int64"):
        index.update(np.array([0.0]), [9.0])
    with pytest.raises(ValueError, match="a priority is inf"):
        index.add(range(4, 6), [1.0, np.inf])
    with pytest.raises(ValueError, match="are not consecutive: the next id is 4"):
        index.add(range(5, 6), [1.0])
    with pytest.raises(ValueError, match="4 of at most 10 are held"):
        index.add(range(4, 12), np.ones(8))
    with pytest.raises(ValueError, match="not the oldest"):
        index.remove(range(1, 2))
    assert (index.state()["values"].tobytes(), index.total) == before
    index.add(range(4, 5), [1.0])


def test_arrays_out_of_messages_are_taken() -> None:
    """They are read-only, float32, and may be slices."""
    index = PrioritizedIndex(10)
    raw = np.ones(8, np.float32)
    ids = np.arange(8)
    raw.flags.writeable = ids.flags.writeable = False
    index.add(range(4), raw[::2])
    assert index.update(ids[:4:2], raw[:2]) == 0


@pytest.mark.parametrize("capacity", [1, 7, 8, 9, 64, 65, 513])
def test_every_capacity_draws_every_id(capacity: int) -> None:
    index = PrioritizedIndex(capacity)
    index.add(range(capacity), np.ones(capacity))
    ids, probabilities = index.sample(capacity, np.random.default_rng(0))
    assert ids.tolist() == list(range(capacity)), "equal priorities: one in each stratum"
    np.testing.assert_allclose(probabilities, 1 / capacity)


class AlmostOne(np.random.Generator):
    """Draws the largest number below one each time."""

    def random(self, size: int) -> np.ndarray:  # type: ignore[override]
        return np.full(size, np.nextafter(1.0, 0.0))


@pytest.mark.parametrize("count", [1, 3, 300])
def test_rounding_at_the_upper_end_draws_no_empty_slot(count: int) -> None:
    index = PrioritizedIndex(4_000)
    values = np.random.default_rng(0).random(2_900) * 1e8
    values[1::2] = 1e-8
    index.add(range(2_900), values)
    ids, probabilities = index.sample(count, AlmostOne(np.random.PCG64(0)))
    assert ids.max() < 2_900
    assert (probabilities > 0).all()


def test_empty_indexes_and_wrong_settings_are_refused() -> None:
    for index in (PrioritizedIndex(3), UniformIndex(3)):
        with pytest.raises(ValueError, match="the replay is empty"):
            index.sample(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        PrioritizedIndex(3, alpha=1.5)
    with pytest.raises(ValueError, match=r"epsilon is 0\.0"):
        PrioritizedIndex(3, epsilon=0.0)
    with pytest.raises(ValueError, match="capacity is 0"):
        PrioritizedIndex(0)
    with pytest.raises(ValueError, match=r"alpha = 0\.5, this one 0\.6"):
        PrioritizedIndex(3).load_state(PrioritizedIndex(3, alpha=0.5).state())
    with pytest.raises(ValueError, match="saved index has kind = 'uniform'"):
        PrioritizedIndex(3).load_state(UniformIndex(3).state())
    with pytest.raises(ValueError, match="saved index has kind = 'prioritized'"):
        UniformIndex(3).load_state(PrioritizedIndex(3).state())


def test_uniform_index_counts_late_updates_and_forgets() -> None:
    index = UniformIndex(4)
    index.add(range(4), np.zeros(4))
    index.remove(range(2))
    index.add(range(4, 6), np.zeros(2))
    assert index.update(np.array([0, 1, 2, 5]), np.zeros(4)) == 2
    ids, probabilities = index.sample(200, np.random.default_rng(0))
    assert set(ids.tolist()) == {2, 3, 4, 5}
    assert set(probabilities.tolist()) == {0.25}
    with pytest.raises(ValueError, match="id 6 was never assigned"):
        index.update(np.array([6]), np.zeros(1))
    twin = UniformIndex(4)
    twin.load_state(index.state())
    assert twin.state() == index.state()
    assert (index.total, index.largest) == (4.0, 1.0)


def test_importance_weights_are_the_papers() -> None:
    probabilities = np.array([0.5, 0.1, 0.01, 0.1])
    paper = (1_000 * probabilities) ** -0.4
    weights = importance_weights(probabilities, 0.4)
    np.testing.assert_allclose(weights, paper / paper.max(), rtol=1e-6)
    assert weights.dtype == np.float32
    assert importance_weights(probabilities, 0.0).tolist() == [1.0] * 4
    with pytest.raises(ValueError, match=r"beta is 1\.1"):
        importance_weights(probabilities, 1.1)
