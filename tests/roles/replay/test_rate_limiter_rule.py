"""The rate limiter keeps its bounds, and never blocks both sides at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.roles.replay.rate_limiter import RateLimiter


@given(
    samples_per_insert=st.floats(0.05, 50.0),
    min_size=st.integers(1, 300),
    chunk=st.integers(1, 64),
    batch=st.integers(1, 256),
    slack=st.floats(1.0, 4.0),
    turns=st.lists(st.booleans(), max_size=300),
)
def test_one_side_can_always_proceed_and_the_error_stays_bounded(
    samples_per_insert: float, min_size: int, chunk: int, batch: int, slack: float, turns: list[bool]
) -> None:
    error_buffer = max(batch, chunk * samples_per_insert, 1.0) * slack
    limiter = RateLimiter(samples_per_insert=samples_per_insert, min_size=min_size, error_buffer=error_buffer)
    inserted = sampled = 0
    for insert_first in turns:
        can_insert, can_sample = limiter.can_insert(chunk), limiter.can_sample(batch)
        assert can_insert or can_sample
        if can_insert and (insert_first or not can_sample):
            limiter.inserted(chunk)
            inserted += chunk
        else:
            limiter.sampled(batch)
            sampled += batch
        assert limiter.error == pytest.approx(samples_per_insert * (inserted - min_size) - sampled)
        assert inserted >= min_size or sampled == 0
        if inserted >= min_size:
            assert abs(limiter.error) <= error_buffer * (1 + 1e-12)


def test_samples_per_insert_are_met() -> None:
    limiter = RateLimiter(samples_per_insert=4.0, min_size=100, error_buffer=512.0)
    inserted = sampled = 0
    while inserted < 10_000:
        while limiter.can_sample(32):
            limiter.sampled(32)
            sampled += 32
        assert limiter.can_insert(16)
        limiter.inserted(16)
        inserted += 16
    assert sampled / (inserted - 100) == pytest.approx(4.0, rel=0.02)


def test_bounds_are_reverbs() -> None:
    limiter = RateLimiter(samples_per_insert=2.0, min_size=10, error_buffer=8.0)
    assert limiter.error == -20
    assert not limiter.can_sample(1)
    for _ in range(3):
        assert limiter.can_insert(4)
        limiter.inserted(4)
    assert limiter.error == 4  # 12 inserted
    assert limiter.can_insert(2)
    assert not limiter.can_insert(3)
    assert limiter.can_sample(8)
    limiter.sampled(8)
    assert limiter.can_sample(4)
    assert not limiter.can_sample(5)


def test_requests_that_could_wait_for_ever_are_refused() -> None:
    limiter = RateLimiter(samples_per_insert=8.0, min_size=100, error_buffer=500.0)
    with pytest.raises(
        ValueError, match="insert of 64 transitions moves the error by 512 samples, but error_buffer"
    ):
        limiter.can_insert(64)
    with pytest.raises(ValueError, match="sample of 512 transitions"):
        limiter.can_sample(512)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples_per_insert": 0.0}, "above 0"),
        ({"samples_per_insert": float("nan")}, "above 0"),
        ({"min_size": 0}, "at least one transition"),
        ({"error_buffer": 3.0}, "at least 4"),
        ({"error_buffer": float("nan")}, "at least 4"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateLimiter(**{"samples_per_insert": 4.0, "min_size": 10, "error_buffer": 100.0, **settings})  # type: ignore[arg-type]


def test_state_continues() -> None:
    limiter = RateLimiter(samples_per_insert=2.0, min_size=10, error_buffer=8.0)
    limiter.inserted(12)
    limiter.sampled(3)
    other = RateLimiter(samples_per_insert=2.0, min_size=10, error_buffer=8.0)
    other.load_state(limiter.state())
    assert other.error == limiter.error == 1


def test_without_a_ratio_inserts_always_happen_and_samples_from_min_size_on() -> None:
    limiter = RateLimiter(samples_per_insert=None, min_size=10, error_buffer=0.0)
    assert limiter.ratio is None
    limiter.inserted(9)
    assert limiter.can_insert(10**9)
    assert not limiter.can_sample(1)
    limiter.inserted(1)
    limiter.sampled(10**9)
    assert limiter.can_insert(1)
    assert limiter.can_sample(10**9)
    assert limiter.ratio == 1e8
