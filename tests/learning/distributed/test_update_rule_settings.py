"""The settings of the update rules: what is refused, and with which words."""

from typing import Any

import msgspec
import pytest

from actorq.learning.distributed.update_rule_settings import UpdateRuleSettings

WORKERS = 4


def problems(settings: dict[str, Any], workers: int | None = WORKERS) -> list[tuple[str, str]]:
    return list(msgspec.convert(settings, UpdateRuleSettings).problems(workers))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stale": "scale"},
        {"stale": "drop", "max_staleness": 8},
        {"stale": "compensate"},
        {"stale": "compensate", "compensation": 2.0},
        {"rule": "synchronous"},
        {"rule": "synchronous", "backup": WORKERS - 1},
        {"rule": "synchronous", "backup": 1, "deal": "speed", "wait_at_most_seconds": 0.5},
        {"rule": "softsync", "softsync_n": WORKERS},
        {"rule": "softsync", "softsync_n": 1, "stale": "drop", "max_staleness": 0},
        {"rule": "bounded", "max_staleness": 0},
        {"rule": "bounded", "max_staleness": 3, "stale": "scale"},
        {"rule": "bounded", "max_staleness": 3, "stale": "compensate", "compensation": 0.1},
    ],
)
def test_settings_that_agree_have_no_problems(settings: dict[str, Any]) -> None:
    assert problems(settings) == []


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"backup": 1}, "backup", "the rule is asynchronous"),
        ({"rule": "bounded", "max_staleness": 1, "backup": 1}, "backup", "the rule is bounded"),
        ({"deal": "speed"}, "deal", "the rule is asynchronous"),
        ({"rule": "bounded", "max_staleness": 0, "deal": "speed"}, "deal", "the rule is bounded"),
        ({"wait_at_most_seconds": 1.0}, "wait_at_most_seconds", "the rule is asynchronous"),
        ({"rule": "softsync"}, "softsync_n", "set it"),
        ({"softsync_n": 2}, "softsync_n", "the rule is asynchronous"),
        ({"rule": "bounded"}, "max_staleness", "the rule bounded needs"),
        ({"stale": "drop"}, "max_staleness", "stale = 'drop' needs"),
        ({"max_staleness": 4}, "max_staleness", "stale is accept"),
        ({"rule": "synchronous", "max_staleness": 4}, "max_staleness", "the rule is synchronous"),
        ({"rule": "synchronous", "stale": "scale"}, "stale", "scale would do nothing"),
        ({"rule": "synchronous", "stale": "drop", "max_staleness": 4}, "stale", "drop would do nothing"),
        ({"rule": "bounded", "stale": "drop", "max_staleness": 4}, "stale", "none to drop"),
        ({"compensation": 0.1}, "compensation", "stale is accept"),
        ({"rule": "synchronous", "backup": WORKERS}, "backup", "at most 3"),
        ({"rule": "softsync", "softsync_n": WORKERS + 1}, "softsync_n", "there are 4 workers"),
    ],
)
def test_contradictions_name_field_and_reason(settings: dict[str, Any], field: str, words: str) -> None:
    [(found, sentence)] = problems(settings)
    assert found == field
    assert words in sentence


def test_without_a_number_of_workers_only_the_settings_themselves_are_compared() -> None:
    assert problems({"rule": "synchronous", "backup": 99}, workers=None) == []
    assert problems({"rule": "softsync", "softsync_n": 99}, workers=None) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "hogwild"},
        {"backup": -1},
        {"softsync_n": 0},
        {"max_staleness": -1},
        {"stale": "forget"},
        {"compensation": 0.0},
        {"staleness": 3},
    ],
)
def test_single_fields_are_checked_when_the_table_is_read(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, UpdateRuleSettings)


def test_the_treatments_of_staleness() -> None:
    scaled = UpdateRuleSettings(stale="scale")
    assert [scaled.factor(staleness) for staleness in (0, 1, 2, 4)] == [1.0, 1.0, 0.5, 0.25]
    dropped = UpdateRuleSettings(stale="drop", max_staleness=3)
    assert [dropped.drops(staleness) for staleness in (0, 3, 4)] == [False, False, True]
    assert UpdateRuleSettings(stale="compensate").compensation_strength == 0.04
    assert UpdateRuleSettings(stale="compensate", compensation=2.0).compensation_strength == 2.0
    for other in (UpdateRuleSettings(), scaled, dropped):
        assert other.compensation_strength == 0.0
    for other in (UpdateRuleSettings(), UpdateRuleSettings(stale="compensate")):
        assert other.factor(9) == 1.0
        assert not other.drops(9)
