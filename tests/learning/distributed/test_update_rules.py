"""The update rules: against naive twins that start from everything outstanding, and in simulated time.

Workers compute, offer, idle, die, come back and restart in any order, and rounds are asked for now and then,
as by a server that is slower than its workers.
"""

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.learning.distributed.update_rule_settings import UpdateRuleSettings
from actorq.learning.distributed.update_rules import Offer, Round, make_update_rule

from .update_rule_coordinator import Front, is_synchronous, twin

WORKERS = 5

RULES = st.one_of(
    st.builds(UpdateRuleSettings, stale=st.sampled_from(["accept", "scale", "compensate"])),
    st.builds(UpdateRuleSettings, stale=st.just("drop"), max_staleness=st.integers(0, 4)),
    st.builds(UpdateRuleSettings, rule=st.just("synchronous"), backup=st.integers(0, WORKERS - 1)),
    st.builds(UpdateRuleSettings, rule=st.just("softsync"), softsync_n=st.integers(1, WORKERS)),
    st.builds(
        UpdateRuleSettings,
        rule=st.just("softsync"),
        softsync_n=st.integers(1, WORKERS),
        stale=st.just("drop"),
        max_staleness=st.integers(0, 4),
    ),
    st.builds(UpdateRuleSettings, rule=st.just("bounded"), max_staleness=st.integers(0, 6)),
)
EVENTS = st.binary() | st.binary(min_size=100)  # many are needed to get far; a failure wants few
HAPPENS = [Front.step] * 7 + [Front.compute, Front.idle, Front.leave, Front.wait_no_longer]


def after(settings: UpdateRuleSettings, events: bytes) -> Front:
    """The front when all that has happened; each of its rounds was its twin's as well."""
    front = Front(settings, WORKERS)
    for event in events:  # one byte says what happens, to whom, and whether the front gets round to its work
        rest, kind = divmod(event, len(HAPPENS))
        rest, worker = divmod(rest, WORKERS)
        HAPPENS[kind](front, worker)
        if rest < 3:
            front.drain(twin(settings))
    front.drain(twin(settings))
    return front


@given(RULES, EVENTS)
def test_each_round_is_the_naive_twins_and_each_offer_ends_once(
    settings: UpdateRuleSettings, events: bytes
) -> None:
    front = after(settings, events)  # Front.end raises for an offer that isn't open
    for worker in front.workers:
        front.leave(worker)
    front.drain()
    assert front.open == []


@given(RULES, EVENTS)
def test_updates_continue_while_one_worker_is_alive(settings: UpdateRuleSettings, events: bytes) -> None:
    front = after(settings, events)
    active = front.active()
    before = front.version
    for _ in range(2 * WORKERS + 2):  # a lone worker fills a round of softsync_n = 1 by itself
        for worker in active:
            front.step(worker)
        front.drain()
    assert front.version > before or not active


@given(st.integers(0, 6), EVENTS)
def test_bounded_never_applies_a_gradient_staler_than_its_bound(bound: int, events: bytes) -> None:
    front = after(UpdateRuleSettings(rule="bounded", max_staleness=bound), events)
    assert all(0 <= staleness <= bound for staleness in front.stalenesses())
    assert front.dropped == [] or bound == 0  # then by the synchronous rule, from a worker that restarted


@given(st.integers(0, WORKERS - 1), EVENTS)
def test_a_synchronous_round_has_one_fresh_gradient_of_a_worker(backup: int, events: bytes) -> None:
    front = after(UpdateRuleSettings(rule="synchronous", backup=backup), events)
    for _, round_ in front.rounds:
        workers = {offer.worker for offer in round_.offers}
        assert len(workers) == len(round_.offers) <= WORKERS - backup
    assert set(front.stalenesses()) <= {0}
    assert {reason for _, reason in front.dropped} <= {"late"}


@given(RULES, EVENTS)
def test_the_factors_of_a_round_are_an_average_over_rows_of_treated_gradients(
    settings: UpdateRuleSettings, events: bytes
) -> None:
    for version, round_ in after(settings, events).rounds:
        ages = [version - offer.updates for offer in round_.offers]
        treatments = [1 / age if settings.stale == "scale" and age else 1.0 for age in ages]
        rows = [offer.rows for offer in round_.offers]
        assert round_.factors == pytest.approx(
            [treatment * own / sum(rows) for treatment, own in zip(treatments, rows, strict=True)]
        )
        assert round_.compensation == (0.04 if settings.stale == "compensate" and any(ages) else 0.0)


def offers_of(round_: Round | None) -> list[Offer]:
    return [] if round_ is None else list(round_.offers)


def test_the_first_synchronous_update_waits_for_idle_workers_and_later_ones_do_not() -> None:
    rule = make_update_rule(UpdateRuleSettings(rule="synchronous"), workers=2)
    rule.idle(1)
    rule.offered(Offer(0, 0))
    assert rule.next(0) is None
    rule.offered(Offer(1, 0))
    assert offers_of(rule.next(0)) == [Offer(0, 0), Offer(1, 0)]
    rule.idle(1)
    rule.offered(Offer(0, 1))
    assert offers_of(rule.next(1)) == [Offer(0, 1)]
    rule.computing(1, 2)  # its replay is full
    rule.offered(Offer(0, 2))
    assert rule.next(2) is None


def test_a_worker_that_left_is_not_waited_for_until_it_comes_back() -> None:
    rule = make_update_rule(UpdateRuleSettings(rule="synchronous"), workers=3)
    rule.left(2)
    rule.offered(Offer(0, 0))
    rule.offered(Offer(1, 0))
    rule.left(1)  # its offer with it
    assert offers_of(rule.next(0)) == [Offer(0, 0)]
    rule.computing(2, 1)
    rule.offered(Offer(0, 1))
    assert rule.next(1) is None
    rule.offered(Offer(2, 1))
    assert offers_of(rule.next(1)) == [Offer(0, 1), Offer(2, 1)]


def test_backup_continues_with_the_first_and_drops_later_ones() -> None:
    rule = make_update_rule(UpdateRuleSettings(rule="synchronous", backup=1), workers=3)
    rule.offered(Offer(2, 0))
    assert rule.next(0) is None
    rule.offered(Offer(0, 0))
    assert rule.next(0) == Round((Offer(2, 0), Offer(0, 0)), (0.5, 0.5))
    rule.offered(Offer(1, 0))
    assert rule.next(1) is None
    assert rule.take_dropped() == [(Offer(1, 0), "late")]
    assert rule.take_dropped() == []


def test_a_round_after_its_timeout_has_the_offers_received() -> None:
    rule = make_update_rule(UpdateRuleSettings(rule="synchronous"), workers=3)
    rule.wait_no_longer()  # before anybody has offered: the round waits as it would have
    assert rule.next(0) is None
    rule.offered(Offer(0, 0, rows=3))
    assert rule.next(0) is None
    rule.offered(Offer(2, 0, rows=1))
    rule.wait_no_longer()
    assert rule.next(0) == Round((Offer(0, 0, rows=3), Offer(2, 0, rows=1)), (0.75, 0.25))
    rule.offered(Offer(1, 0))
    assert rule.next(1) is None
    assert rule.take_dropped() == [(Offer(1, 0), "late")]
    rule.offered(Offer(0, 1))
    assert rule.next(1) is None, "the next round waits again"


def test_bounded_waits_for_the_gradient_that_is_due_and_averages_those_due_together() -> None:
    rule = make_update_rule(UpdateRuleSettings(rule="bounded", max_staleness=2), workers=3)
    for worker in range(3):
        rule.computing(worker, 0)
    for version in range(2):  # worker 0 runs ahead
        rule.offered(Offer(0, version))
        assert offers_of(rule.next(version)) == [Offer(0, version)]
        rule.computing(0, version + 1)
    rule.offered(Offer(0, 2))
    rule.offered(Offer(2, 0))
    assert rule.next(2) is None  # the gradient of worker 1 would be 3 updates old at the next
    rule.offered(Offer(1, 0))
    assert rule.next(2) == Round((Offer(2, 0), Offer(1, 0)), (0.5, 0.5))
    assert offers_of(rule.next(3)) == [Offer(0, 2)]


@pytest.mark.parametrize("release", ["idle", "left"])
def test_bounded_is_held_by_no_worker_that_is_idle_or_dead(release: str) -> None:
    rule = make_update_rule(UpdateRuleSettings(rule="bounded", max_staleness=1), workers=2)
    rule.computing(0, 0)
    rule.computing(1, 0)
    rule.offered(Offer(0, 0))
    assert offers_of(rule.next(0)) == [Offer(0, 0)]
    rule.offered(Offer(0, 1))
    assert rule.next(1) is None
    getattr(rule, release)(1)
    assert offers_of(rule.next(1)) == [Offer(0, 1)]


def test_bounded_drops_a_gradient_of_a_version_too_old_to_have_been_handed_out() -> None:
    rule = make_update_rule(UpdateRuleSettings(rule="bounded", max_staleness=2), workers=1)
    rule.computing(0, 6)
    rule.offered(Offer(0, 6))
    assert rule.next(9) is None
    assert rule.take_dropped() == [(Offer(0, 6), "stale")]


def test_softsync_needs_fewer_gradients_when_workers_leave() -> None:
    rule = make_update_rule(UpdateRuleSettings(rule="softsync", softsync_n=2), workers=4)
    rule.offered(Offer(0, 0))
    assert rule.next(0) is None
    rule.left(3)
    assert offers_of(rule.next(0)) == [Offer(0, 0)]


def simulated(
    settings: UpdateRuleSettings, speeds: list[float], until: float, seed: int, spread: float = 0.5
) -> Front:
    """Workers that make `speeds` gradients per unit of time, each time up to `spread` more or less."""
    rng = random.Random(seed)
    front = Front(settings, len(speeds))
    done: list[tuple[float, int]] = []

    def begin(worker: int, now: float) -> None:
        front.compute(worker)
        heapq.heappush(done, (now + rng.uniform(1 - spread, 1 + spread) / speeds[worker], worker))

    for worker in front.workers:
        begin(worker, 0.0)
    while done[0][0] < until:
        now, worker = heapq.heappop(done)
        front.offer(worker)
        front.drain()
        for free in [worker for worker in front.workers if front.doing[worker] == "nothing"]:
            begin(free, now)
    return front


@given(
    st.integers(0, 12),
    st.lists(st.sampled_from([0.1, 0.5, 1.0, 3.0]), min_size=1, max_size=8),
    st.integers(0, 2**32),
)
def test_bounded_keeps_its_bound_at_any_speeds(bound: int, speeds: list[float], seed: int) -> None:
    settings = UpdateRuleSettings(rule="bounded", max_staleness=bound)
    front = simulated(settings, speeds, until=40.0, seed=seed, spread=0.9)
    assert max(front.stalenesses()) <= bound
    assert {offer.worker for _, round_ in front.rounds for offer in round_.offers} == set(front.workers)


def test_a_larger_bound_is_held_back_less_by_one_slow_worker() -> None:
    speeds = [1.0, 1.0, 1.0, 0.1]
    free = simulated(UpdateRuleSettings(), speeds, until=400.0, seed=1).stalenesses()
    applied = []
    for bound in (0, 1, 4, 16, 64):
        settings = UpdateRuleSettings(rule="bounded", max_staleness=bound)
        stalenesses = simulated(settings, speeds, until=400.0, seed=1).stalenesses()
        assert max(stalenesses) == min(bound, max(free))
        applied.append(len(stalenesses))
    assert applied == sorted(applied)
    assert applied[0] < 0.2 * len(free)
    assert applied[-1] == len(free)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("workers", [8, 12, 16])
def test_the_mean_staleness_of_softsync_is_about_n(n: int, workers: int) -> None:
    settings = UpdateRuleSettings(rule="softsync", softsync_n=n)
    stalenesses = simulated(settings, [1.0] * workers, until=200.0, seed=workers).stalenesses()
    assert 0.6 * n <= sum(stalenesses) / len(stalenesses) <= 1.4 * n
    assert max(stalenesses) <= 2 * n + 1


def test_bounded_by_nothing_is_the_synchronous_rule() -> None:
    assert is_synchronous(UpdateRuleSettings(rule="bounded", max_staleness=0))
    speeds = [1.0, 0.7, 0.3]
    bounded = simulated(UpdateRuleSettings(rule="bounded", max_staleness=0), speeds, until=50.0, seed=3)
    synchronous = simulated(UpdateRuleSettings(rule="synchronous"), speeds, until=50.0, seed=3)
    assert bounded.rounds == synchronous.rounds
    assert all(len(round_.offers) == 3 for _, round_ in bounded.rounds)
