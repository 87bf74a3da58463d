"""Memory estimates of replays, by their explorers, in memory or in Redis."""

from __future__ import annotations

from typing import Any

from actorq.topology import check, memory_needs


def needs(recipe: str = "prioritized_replay", **changes: Any) -> list[tuple[str, int, str, int]]:
    overrides = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
    plan = check(recipe, overrides)
    return [(need.actor, need.count, need.what, need.bytes) for need in memory_needs(plan)]


def test_shards_tell_what_each_of_them_holds() -> None:
    """CartPole: 24 bytes of record, 4 numbers in 5 frames for 4 steps, and a priority."""
    each = 24 + 16 * 5 / 4 + 64 / 7
    assert needs() == [("replay", 2, "50,000 transitions of 53 bytes", round(50_000 * each))]


def test_longer_chunks_take_less_and_longer_returns_more() -> None:
    each = 24 + 16 * (32 + 3) / 32
    told = needs(
        actors__explorer__config__chunk_steps=32,
        agent__n_step=3,
        actors__replay__config__sampling="uniform",
    )
    assert told == [("replay", 2, "50,000 transitions of 42 bytes", round(50_000 * each))]


def test_foreign_data_in_redis_has_its_own_error() -> None:
    in_redis = 24 + 4 + 16 * 5 / 4 + 556 / 32
    told = [need for need in needs(recipe="prioritized_replay_redis") if need[0] == "replay"]
    assert told == [
        ("replay", 2, "50,000 transitions of 65 bytes in Redis", round(50_000 * in_redis)),
        ("replay", 2, "50,000 priorities and places of 21 bytes", round(50_000 * (12 + 64 / 7))),
    ]


def test_tasks_take_what_their_observations_take() -> None:
    """CartPole's 4 numbers, Acrobot's 6 and GridWorld's 24 in 6 frames for 4 steps."""
    each = 24 + 4 * (4 + 6 + 24) / 3 * 6 / 4 + 64 / 7
    what = f"50,000 transitions of {each:.0f} bytes, tasks on average"
    assert needs("multitask") == [("replay", 3, what, round(50_000 * each))]
