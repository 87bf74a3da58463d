"""The plan of a valid topology."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from actorq.actors.spec import MailboxBounds, RestartLimits, derive_seed
from actorq.topology import (
    ActorTable,
    GroupTable,
    NodeTable,
    SnapshotTable,
    Solved,
    Stop,
    Topology,
    TopologyError,
    check,
    load,
    to_toml,
)
from actorq.topology.check import (
    nodes,
)
from tests.topology import actors as example


def test_members_are_expanded_in_file_order() -> None:
    plan = check(example.hierarchy())
    explorers = [f"explorer.{index}" for index in range(4)]
    assert [spec.name for spec in plan.specs] == ["replay", "learner", *explorers, "evaluator", "watcher"]
    third = plan.specs[4]
    assert (third.name, third.index, third.count) == ("explorer.2", 2, 4)
    assert third.cls is example.Explorer
    assert third.config == example.Explorer.Config(envs=16)
    assert third.restart == "always"
    assert third.ports == {"replay": ("replay",), "weights": ("learner",)}
    assert {spec.seed for spec in plan.specs} == {derive_seed(7, spec.name) for spec in plan.specs}


def test_settings_reach_their_actor() -> None:
    plan = check(example.hierarchy())
    specs = {spec.name: spec for spec in plan.specs}
    assert specs["replay"].mailbox == MailboxBounds(messages=10)
    assert specs["replay"].config == example.Replay.Config(capacity=5000)
    assert specs["learner"].snapshot_every_updates == 1000
    assert specs["learner"].snapshot_every_seconds is None
    assert specs["learner"].tables["agent"] == example.Agent(hidden=(128, 128), n_step=3)
    assert specs["learner"].tables["agent"] is specs["explorer.3"].tables["agent"]
    assert specs["evaluator"].tables["stop"] == Stop(solved=Solved(mean_return=475.0), env_steps=200_000)
    assert plan.tables == {"agent": specs["learner"].tables["agent"], "task": example.Task(env="CartPole-v1")}


def test_groups() -> None:
    plan = check(example.hierarchy())
    (group,) = plan.groups
    assert (group.name, group.strategy) == ("core", "rest-for-one")
    assert group.limits == RestartLimits(max_restarts=5)
    assert [spec.name for spec in plan.specs if spec.group == "core"] == ["replay", "learner"]


def test_members_go_over_the_nodes_in_turn() -> None:
    file = example.hierarchy()
    file["actors"]["explorer"]["count"] = 3
    plan = check(file)
    assert [(node.name, node.actors) for node in plan.nodes] == [
        ("main", ("replay", "learner", "evaluator", "watcher")),
        ("explorers.0", ("explorer.0", "explorer.2")),
        ("explorers.1", ("explorer.1",)),
    ]
    assert {spec.name: spec.node for spec in plan.specs}["explorer.2"] == "explorers.0"


def test_main_is_there_without_being_declared() -> None:
    plan = check({"actors": {"loner": {"role": example.role(example.Loner)}}})
    (node,) = plan.nodes
    assert (node.name, node.place, node.transport, node.actors) == ("main", "here", "inproc", ("loner",))


def test_a_topology_needs_no_stop_conditions() -> None:
    assert load({"actors": {"loner": {"role": example.role(example.Loner)}}}).stop == Stop()


def test_groups_and_feeds_take_lists_and_counted_actors() -> None:
    replay, learner = example.role(example.Replay), example.role(example.Learner)
    plan = check(
        {
            "task": {"env": "CartPole-v1"},
            "actors": {
                "small": {"role": replay, "count": 2},
                "big": {"role": replay},
                "learner": {"role": learner, "count": 2, "ports": {"replay": "big"}},
                "watcher": {
                    "role": example.role(example.Watcher),
                    "ports": {
                        "all_replays": ["big", "small"],
                        "news": "learner",
                        "both": ["learner", "watcher"],
                    },
                },
            },
        }
    )
    assert plan.specs[-1].ports == {
        "all_replays": ("big", "small.0", "small.1"),
        "news": ("learner.0", "learner.1"),
        "both": ("learner.0", "learner.1", "watcher"),
    }


def test_a_role_may_read_a_part_of_the_stop_table() -> None:
    file = {"stop": {"env_steps": 5}, "actors": {"viewer": {"role": example.role(example.Viewer)}}}
    assert check(file).specs[0].tables["stop"] == example.StopView(solved=None, updates=7)
    file["stop"] = {"solved": {"return": 3, "episodes": 2}, "updates": 9}
    assert check(file).specs[0].tables["stop"] == example.StopView(
        solved=example.SolvedView(goal=3.0), updates=9
    )


def in_python() -> Topology:
    return Topology(
        name="hierarchy",
        seed=7,
        stop=Stop(solved=Solved(mean_return=475.0), env_steps=200_000),
        nodes={"main": NodeTable(), "explorers": NodeTable(count=2, place="process")},
        actors={
            "replay": ActorTable(role=example.Replay, config=example.Replay.Config(capacity=5000)),
            "learner": ActorTable(
                role=example.Learner, ports={"replay": "replay"}, snapshot_every=SnapshotTable(updates=1000)
            ),
            "explorer": ActorTable(
                role=example.Explorer,
                count=4,
                node="explorers",
                ports={"replay": "replay", "weights": "learner"},
            ),
            "evaluator": ActorTable(role=example.Evaluator, ports={"weights": ("learner",)}),
        },
        groups={"core": GroupTable(actors=("replay", "learner"))},
        tables={"task": example.Task(env="CartPole-v1"), "agent": {"n_step": 2}},
    )


def test_a_topology_made_in_python() -> None:
    plan = check(in_python(), ["agent.n_step=4", "actors.replay.config.alpha=0.5"])
    assert plan.specs[0].config == example.Replay.Config(capacity=5000, alpha=0.5)
    assert plan.tables["agent"] == example.Agent(n_step=4)


def test_a_topology_made_in_python_is_checked_alike() -> None:
    wrong = msgspec.structs.replace(
        in_python(),
        seed=-1,
        stop=Stop(env_steps=0),
        actors={"a": ActorTable(role=example.Replay, count=0), "b": ActorTable(role=int)},  # type: ignore[arg-type]
        tables={"nodes": {}},
    )
    with pytest.raises(TopologyError) as caught:
        check(wrong)
    assert [problem.where for problem in caught.value.problems] == ["tables.nodes"]
    with pytest.raises(TopologyError) as caught:
        check(msgspec.structs.replace(wrong, tables={}))
    places = {problem.where for problem in caught.value.problems}
    assert {"seed", "stop.env_steps", "actors.a.count", "actors.b.role"} <= places


def test_a_checked_topology_checks_again() -> None:
    topology = load(example.hierarchy())
    assert load(topology) == topology
    assert check(topology).specs == check(example.hierarchy()).specs


def test_checking_leaves_the_dict_as_it_was() -> None:
    file = example.hierarchy()
    check(file, ["agent.n_step=9", "actors.replay.count=1"], transport="inproc")
    assert file == example.hierarchy()


def test_one_transport_for_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    file = example.hierarchy()
    file["nodes"]["explorers"]["transport"] = "nng"
    monkeypatch.setattr(nodes, "installed_transports", lambda: ["inproc"])
    with pytest.raises(TopologyError, match="--transport inproc puts all nodes on inproc"):
        check(file)
    assert {node.transport for node in check(file, transport="inproc").nodes} == {"inproc"}
    monkeypatch.setattr(nodes, "installed_transports", lambda: ["inproc", "nng"])
    assert [node.transport for node in check(file).nodes] == ["inproc", "nng", "nng"]


@pytest.mark.parametrize("make", [example.hierarchy, in_python], ids=["dict", "python"])
def test_toml_reads_back_as_the_same_topology(make: object, tmp_path: Path) -> None:
    plan = check(make())  # type: ignore[operator]
    file = tmp_path / "again.toml"
    file.write_text(to_toml(plan.topology), encoding="utf-8")
    again = check(file)
    assert again.specs == plan.specs
    assert again.nodes == plan.nodes
    assert again.groups == plan.groups
    assert again.topology.stop == plan.topology.stop


@pytest.mark.parametrize(
    "text", ["plain", "", 'a "quoted" \\ word', "ε and 漢字", "line\nbreak\ttab", "\x00\x7f\x1b", "😀"]
)
def test_any_text_survives_toml(text: str, tmp_path: Path) -> None:
    topology = load(
        {
            "task": {"env": text or "x"},
            "agent": {"gains": {text: 1e300}},
            "actors": {
                "replay": {"role": example.role(example.Replay)},
                "learner": {"role": example.role(example.Learner), "ports": {"replay": "replay"}},
            },
        }
    )
    file = tmp_path / "again.toml"
    file.write_text(to_toml(topology), encoding="utf-8")
    assert load(file).tables == topology.tables


def test_a_number_too_long_to_be_printed() -> None:
    with pytest.raises(TopologyError, match="found a number beyond all bounds"):
        check({**example.hierarchy(), "backend": 10**5000})


def test_a_transport_for_all_nodes_is_held_against_the_installed_ones_though_none_is_declared() -> None:
    with pytest.raises(TopologyError, match='transport "pigeon" is not installed'):
        check({"actors": {"loner": {"role": example.Loner}}}, transport="pigeon")


def test_a_problem_in_one_table_hides_none_in_another() -> None:
    overrides = ["agent.n_stpe=3", "task.env=CartPole-v9"]
    with pytest.raises(TopologyError) as found:
        check("hierarchical", overrides)
    assert [problem.where for problem in found.value.problems] == ["agent.n_stpe", "task.env"]
