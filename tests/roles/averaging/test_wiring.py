"""Problems of `check` with trees that can't work."""

from __future__ import annotations

from typing import Any

import pytest

from actorq.actors.runtime.wiring import senders
from actorq.roles.averaging.messages import Synchronize
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
            "root": {"role": "averaging_server", **root},
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


def test_the_learners_of_all_groups_are_averaged() -> None:
    specs = {spec.name: spec for spec in check(tree()).specs}
    assert senders("root", Synchronize, specs) == ("edge.0.learner", "edge.1.learner")


def test_the_former_port_is_ignored() -> None:
    assert check(tree(ports={"learners": ["learner", "loner"]})).specs == check(tree()).specs


def test_a_root_without_learners() -> None:
    topology = tree()
    del topology["actors"]["learner"]["ports"]["root"]
    assert 'actors.root.ports: no learner has the port root = "root"' in problems(topology)


def test_elasticity_is_for_elastic_averaging() -> None:
    told = problems(tree(config={"elasticity": 0.1}))
    assert 'actors.root.config.elasticity: is of rule = "elastic", not of "mean"' in told
    check(tree(config={"elasticity": 0.1, "rule": "elastic"}))
    assert "elasticity" in problems(tree(config={"elasticity": 1.5, "rule": "elastic"}))
