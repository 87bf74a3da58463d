"""Topologies whose actors are valid separately and can't work together."""

from __future__ import annotations

from typing import Any

import pytest

from actorq.topology import TopologyError, check

TASKS = [{"name": "cart", "env": "CartPole-v1"}, {"name": "grid", "env": "actorq/GridWorld-v0"}]
AGENT = {"hidden": [8, 8]}


def refused(source: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(TopologyError) as caught:
        check(source)
    return {problem.where: problem.problem for problem in caught.value.problems}


def learning(*, explorer: dict[str, Any], learner: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "tasks": TASKS,
        "agent": AGENT,
        "actors": {
            "limiter": {"role": "rate_limiter"},
            "a": {"role": "replay", "ports": {"limiter": "limiter"}},
            "b": {"role": "replay", "ports": {"limiter": "limiter"}},
            "learner": {"role": "learner", **learner},
            "explorer": {"role": "environment", "count": 2, **explorer},
        },
        **more,
    }


def test_a_shard_is_one_task_s_for_all() -> None:
    explorer = {"ports": {"replay": ["a", "b"], "weights": "learner"}}
    assert check(learning(explorer=explorer, learner={"ports": {"replay": ["a", "b"]}})).specs
    found = refused(learning(explorer=explorer, learner={"ports": {"replay": ["b", "a"]}}))
    assert (
        "a holds grid by this order, and cart by that of explorer.0" in found["actors.learner.ports.replay"]
    )


def test_explorers_outside_of_groups_that_have_tasks() -> None:
    source = learning(
        explorer={"ports": {"replay": "a", "weights": "root"}},
        learner={"ports": {"replay": "a", "root": "root"}},
        groups={"edge": {"count": 2, "actors": ["a", "learner"]}},
    )
    source["actors"]["a"] |= {"count": 2}
    source["actors"]["root"] = {"role": "averaging_server"}
    del source["actors"]["b"]
    assert "by that of" in refused(source)["actors.learner.ports.replay"]


def test_weights_are_one_learner_s() -> None:
    source = learning(
        explorer={"ports": {"replay": ["a", "b"], "weights": "learner"}},
        learner={"ports": {"replay": ["a", "b"]}, "count": 2},
    )
    source["actors"]["evaluator"] = {"role": "evaluator", "ports": {"weights": "learner"}}
    source["actors"]["inference"] = {"role": "inference", "ports": {"weights": "learner"}}
    found = refused(source)
    for actor in ("explorer", "evaluator", "inference"):
        assert "learner.0, learner.1 have parameters of their own" in found[f"actors.{actor}.ports.weights"]


@pytest.mark.parametrize("role", ["worker", "gradient_learner"])
def test_a_front_knows_its_workers_by_their_numbers(role: str) -> None:
    pushing = {"servers": "server", "coordinator": "coordinator"}
    if role == "gradient_learner":
        pushing["replay"] = "replay"
    source: dict[str, Any] = {
        "task": {"env": "CartPole-v1"},
        "agent": {},
        "actors": {
            "server": {"role": "parameter_server"},
            "coordinator": {
                "role": "parameter_coordinator",
                "ports": {"servers": "server"},
            },
            "replay": {"role": "replay"},
            "fast": {"role": role, "ports": pushing},
            "slow": {"role": role, "ports": pushing},
        },
    }
    found = refused(source)
    for actor in ("fast", "slow"):
        assert "coordinator identifies workers by their index" in found[f"actors.{actor}.ports.coordinator"]


def test_stages_have_one_learner() -> None:
    source: dict[str, Any] = {
        "task": {"env": "CartPole-v1"},
        "agent": {"hidden": [8, 8]},
        "actors": {
            "replay": {"role": "replay"},
            "stage": {"role": "stage", "count": 2, "ports": {"stages": "stage"}},
            "one": {"role": "pipeline_learner", "ports": {"replay": "replay", "stages": "stage"}},
            "other": {"role": "pipeline_learner", "ports": {"replay": "replay", "stages": "stage"}},
        },
    }
    assert "give each learner its own stages" in refused(source)["actors.one.ports.stages"]


def test_a_task_of_a_repeated_group_without_explorers() -> None:
    source = learning(
        explorer={"count": 1, "ports": {"replay": ["a", "b"], "weights": "learner"}},
        learner={"ports": {"replay": ["a", "b"], "root": "root"}},
        groups={"edge": {"count": 2, "actors": ["limiter", "a", "b", "learner", "explorer"]}},
    )
    source["actors"]["root"] = {"role": "averaging_server"}
    assert 'no explorer has the task "grid"' in refused(source)["actors.explorer.ports.replay"]
    source["actors"]["explorer"]["count"] = 2
    assert len(check(source).specs) == 13
