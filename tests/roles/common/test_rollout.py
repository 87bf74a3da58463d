"""Rollouts without an actor's messages: counts, and continuing after a restart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from actorq.actors.runtime.reports import ReportTotals
from actorq.envs.task import Task
from actorq.learning.exploration import LinearEpsilon
from actorq.replay.chunk import Chunk
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.rollout import ExplorationConfig, LocalRollout
from tests.roles.actors import AGENT, weights

CONFIG = ExplorationConfig(envs=3, chunk_steps=4, epsilon=0.5)


def exploration(
    tally: ReportTotals | None = None, config: ExplorationConfig = CONFIG, **actor: Any
) -> LocalRollout:
    """As an actor would make it, with weights to act with."""
    tally = tally or ReportTotals()
    itself = {
        "index": 0,
        "count": 1,
        "instances": 1,
        "seed": 5,
        "restarts": 0,
        "agent": AGENT,
        "all_tasks": (Task(env="CartPole-v1"),),
        "report": lambda name, value: tally.gauge("explorer", name, value),
        "progress": lambda name, amount: tally.count("explorer", name, amount),
    }
    stand_in = cast(LearningActor, SimpleNamespace(**{**itself, **actor}))
    made = LocalRollout(stand_in, config, "cpu")
    made.act_with(weights(1, inputs=4).parameters)
    return made


def same(a: Chunk, b: Chunk) -> bool:
    return a.frames.tobytes() == b.frames.tobytes() and a.actions.tobytes() == b.actions.tobytes()


def test_what_was_explored_counts_when_it_is_said_to() -> None:
    tally = ReportTotals()
    explorer = exploration(tally)
    chunks = [explorer.explore() for _ in range(20)]
    assert not tally.counts
    explorer.count()
    assert tally.counts["env_steps"] == explorer.env_steps
    assert explorer.env_steps >= sum(map(len, chunks))
    assert tally.counts["episodes"] > 0
    assert tally.gauges["episode_return"] == tally.gauges["episode_length"] > 1
    before = dict(tally.counts)
    explorer.count()
    assert tally.counts == before, "once"


@pytest.mark.parametrize("other", [{"restarts": 1}, {"seed": 6}])
def test_an_incarnation_and_a_seed_of_its_own_are_another_way(other: dict[str, Any]) -> None:
    first = exploration().explore()
    assert same(first, exploration().explore())
    assert not same(first, exploration(**other).explore())


def test_continues_counting_and_begins_new_episodes() -> None:
    tally = ReportTotals()
    before, after = exploration(), exploration(tally)
    began = before.explore()
    after.load_state(before.state())
    again = after.explore()
    after.count()
    assert tally.counts["env_steps"] == after.env_steps - before.env_steps
    assert not np.array_equal(began.frames[:3], again.frames[:3])


@pytest.mark.parametrize(
    ("epsilon", "index", "greedy"),
    [(0.0, 0, True), (1.0, 0, False), (None, 0, False), (None, 1, True)],
    ids=["never", "always", "first rung", "last rung"],
)
def test_epsilon_is_the_setting_or_the_rung_of_the_ladder(
    epsilon: float | None, index: int, greedy: bool
) -> None:
    config = ExplorationConfig(envs=3, chunk_steps=4, epsilon=epsilon, ladder_base=0.9, ladder_alpha=1e6)
    explorer = exploration(config=config, index=index, count=2)
    actions = np.concatenate([explorer.explore().actions for _ in range(10)])
    assert (not actions.any()) == greedy, "equal Q-values: the greedy action is the first"


def test_epsilon_falls_with_the_environment_steps() -> None:
    line = LinearEpsilon(start=1.0, end=0.0, env_steps=60)
    explorer = exploration(config=ExplorationConfig(envs=3, chunk_steps=4, epsilon=line))
    chunks = [explorer.explore() for _ in range(20)]
    assert chunks[0].actions.any()
    assert not any(chunk.actions.any() for chunk in chunks[-10:])
