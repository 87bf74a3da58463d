"""Problems of `check` with trees that can't work."""

from __future__ import annotations

from typing import Any

import pytest

from actorq.topology import TopologyError, check


def tree(**root: Any) -> dict[str, Any]:
    """Two groups below a root, and a learner that is alone."""
    replay = {"role": "replay"}
    return {
        "name": "tree",
        "task": {"env": "CartPole-v1"},
        "agent": {"hidden": [8]},
        "stop": {"updates": 10},
        "groups": {"edge": {"count": 2, "actors": ["replay", "learner"]}},
        "actors": {
            "root": {"role": "averaging_server", "ports": {"learners": "learner"}, **root},
            "replay": replay,
            "learner": {"role": "learner", "ports": {"replay": "replay", "root": "root"}},
            "memory": replay,
            "loner": {"role": "learner", "ports": {"replay": "memory"}},
        },
    }


def problems(topology: dict[str, Any]) -> str:
    with pytest.raises(TopologyError) as refused:
        check(topology)
    return str(refused.value)


def test_the_learners_of_all_groups_meet() -> None:
    plan = check(tree())
    (root,) = [spec for spec in plan.specs if spec.name == "root"]
    assert root.ports["learners"] == ("edge.0.learner", "edge.1.learner")


def test_a_learner_of_the_root_is_wired_to_it() -> None:
    topology = tree()
    topology["actors"]["loner"]["ports"]["root"] = "root"
    assert "actors.root.ports.learners: lacks loner, whose port root is wired to this actor" in problems(
        topology
    )


def test_a_missing_learner_is_not_waited_for() -> None:
    told = problems(tree(ports={"learners": ["learner", "loner"]}))
    assert "actors.root.ports.learners: names loner, whose port root isn't wired to this actor" in told


def test_elasticity_is_for_elastic_averaging() -> None:
    told = problems(tree(config={"elasticity": 0.1}))
    assert 'actors.root.config.elasticity: is of rule = "elastic", not of "mean"' in told
    check(tree(config={"elasticity": 0.1, "rule": "elastic"}))
    assert "elasticity" in problems(tree(config={"elasticity": 1.5, "rule": "elastic"}))
