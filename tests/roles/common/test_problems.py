"""Problems that learning roles find with network and environment before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.roles.common.problems import device_problems, environment_problems
from actorq.topology import TopologyError, check


def problems(agent: Agent, env: str = "CartPole-v1") -> list[tuple[str, str]]:
    return list(environment_problems({"agent": agent, "task": Task(env=env)}))


@pytest.mark.parametrize("network", ["mlp", "tests.learning.custom:Tanh"])
def test_networks_that_fit_have_none(network: str) -> None:
    assert problems(Agent(network=network)) == []


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("nature_cnn", "takes pictures [channels, height, width]"),
        ("minatar_cnn", "takes pictures [channels, height, width]"),
        ("tests.learning.custom:Tan", "did you mean 'Tanh'"),
        ("no_such_package:Net", "there is no module 'no_such_package'"),
    ],
)
def test_a_network_that_cannot_be_used_is_found_before_the_start(network: str, words: str) -> None:
    ((key, sentence),) = problems(Agent(network=network))
    assert key == "agent.network"
    assert words in sentence


def test_pictures_must_be_large_enough() -> None:
    ((_, sentence),) = problems(Agent(network="nature_cnn"), "tests.roles.actors:Stamp")
    assert "at least 36; the observations are [3, 10, 12]" in sentence
    assert problems(Agent(network="minatar_cnn"), "tests.roles.actors:Stamp") == []


def topology() -> dict[str, Any]:
    return {
        "name": "t",
        "task": {"env": "CartPole-v1"},
        "stop": {"updates": 1},
        "actors": {
            "replay": {"role": "replay"},
            "learner": {"role": "learner", "ports": {"replay": "replay"}},
            "explorer": {"role": "environment", "ports": {"replay": "replay", "weights": "learner"}},
            "evaluator": {"role": "evaluator", "ports": {"weights": "learner"}},
        },
    }


@pytest.mark.parametrize(
    ("where", "key"), [("explorer", "envs"), ("explorer", "chunk_steps"), ("evaluator", "episodes")]
)
def test_more_than_any_machine_holds_is_found_before_the_start(where: str, key: str) -> None:
    wrong = topology()
    wrong["actors"][where]["config"] = {key: 10_000}
    check(wrong)
    wrong["actors"][where]["config"] = {key: 10**9}
    told = rf"actors\.{where}\.config\.{key}: found 1000000000; expected .*at most 10000"
    with pytest.raises(TopologyError, match=told):
        check(wrong)


def test_so_is_an_evaluation_of_too_many_episodes() -> None:
    wrong = topology()
    wrong["stop"] = {"solved": {"return": 475.0, "episodes": 10**9}}
    with pytest.raises(
        TopologyError, match=r"stop\.solved\.episodes: found 1000000000; expected .*at most 10000"
    ):
        check(wrong)


@pytest.mark.parametrize("actor", ["learner", "explorer", "evaluator"])
def test_a_name_that_is_no_device_is_found_before_the_start(actor: str) -> None:
    wrong = topology()
    wrong["actors"][actor]["config"] = {"device": "gpu"}
    with pytest.raises(TopologyError, match=rf"actors\.{actor}\.config\.device.*gpu"):
        check(wrong)
    for right in ("auto", "cpu", "cuda", "cuda:1"):
        wrong["actors"][actor]["config"] = {"device": right}
        check(wrong)


def test_a_device_that_the_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert list(device_problems("auto")) == list(device_problems("cpu")) == []
    ((key, sentence),) = device_problems("cuda:1")
    assert key == "config.device"
    assert "no CUDA device here" in sentence
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert list(device_problems("cuda:1")) == []
    assert len(list(device_problems("cuda:2"))) == 1


CART, GRID = {"env": "CartPole-v1", "name": "cart"}, {"env": "actorq/GridWorld-v0", "name": "grid"}


def several(*tasks: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "tasks": list(tasks),
        "agent": {"hidden": [8, 8]},
        "actors": {
            "replay": {"role": "replay", "count": 2, "ports": {"limiter": "limiter"}},
            "limiter": {"role": "rate_limiter"},
            "learner": {"role": "learner", "ports": {"replay": "replay"}},
        },
        **changed,
    }


def told(source: dict[str, Any], *overrides: str) -> dict[str, str]:
    with pytest.raises(TopologyError) as caught:
        check(source, overrides)
    return {problem.where: problem.problem for problem in caught.value.problems}


def test_tasks_that_one_network_can_learn() -> None:
    assert [task.name for task in check(several(CART, GRID)).tables["tasks"]] == ["cart", "grid"]


@pytest.mark.parametrize(
    ("override", "where", "words"),
    [
        ("tasks.1.name=cart", "tasks[1].name", '"cart" is the name of tasks[0]'),
        ("tasks.1.env=CartPol-v1", "tasks[1].env", "CartPol-v1"),
        ("agent.hidden=[8]", "agent.hidden", "give two or more"),
        ("agent.network=tests.learning.custom:Tanh", "agent.hidden", ""),
        ("agent.batch_size=1", "agent.batch_size", "each of 2 tasks"),
        ("agent.network=minatar_cnn", "agent.network", "takes pictures"),
        ("actors.replay.count=3", "actors.learner.ports.replay", "each of the 2 tasks has shards of its own"),
        ("task.env=CartPole-v1", "tasks", "[task] is there as well"),
    ],
)
def test_tasks_that_cannot_be_learned_together(override: str, where: str, words: str) -> None:
    found = told(several(CART, GRID), override)
    assert where in found
    assert words in found[where]


def test_adaptive_scales_are_for_a_lone_learner() -> None:
    lone = several(CART, GRID | {"reward_scale": "adaptive"})
    check(lone)
    server = {
        "coordinator": {
            "role": "parameter_coordinator",
            "ports": {"servers": "server"},
        },
        "server": {"role": "parameter_server"},
        "learner": {
            "role": "gradient_learner",
            "ports": {"replay": "replay", "servers": "server", "coordinator": "coordinator"},
        },
    }
    found = told({**lone, "actors": {**lone["actors"], **server}})
    assert "lone learner" in found["tasks[1].reward_scale"]


def test_adaptive_scales_want_to_know_the_head() -> None:
    own = {"network": "tests.learning.custom:Tanh"}
    task = {"env": "CartPole-v1", "reward_scale": "adaptive"}
    source = several(CART, task=task, agent=own)
    del source["tasks"]
    assert "declared network" in told(source)["task.reward_scale"]


def test_nothing_to_learn() -> None:
    source = several(CART, GRID)
    del source["tasks"]
    assert "[[tasks]]" in told(source)["task.env"]


def test_a_cut_by_time_is_refused_where_time_is_virtual() -> None:
    overrides = ["deterministic=true", 'actors.learner.config.cut="time"']
    with pytest.raises(TopologyError) as caught:
        check("model_parallel", overrides, transport="inproc")
    ((problem,)) = caught.value.problems
    assert problem.where == "deterministic"
    assert "learner can't take part" in problem.problem
    assert check("model_parallel", overrides[:1], transport="inproc").specs
