"""Groups: actors supervised together, and repeated groups."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.actors import ActorSpec
from actorq.topology import GroupTable, Topology, TopologyError, check, load, memory_needs, to_toml
from actorq.topology.check.members import called, declared_name, without_index
from tests.topology import actors as example
from tests.topology.actors import edges


def specs_of(file: dict[str, Any]) -> dict[str, ActorSpec]:
    return {spec.name: spec for spec in check(file).specs}


def problem_of(file: dict[str, Any]) -> tuple[str, str, str]:
    with pytest.raises(TopologyError) as refused:
        check(file)
    (problem,) = refused.value.problems
    return problem.where, problem.problem, problem.hint


def test_members_are_named_by_group_instance_and_actor() -> None:
    assert list(specs_of(edges(2))) == [
        *("edge.0.replay", "edge.1.replay"),
        *("edge.0.learner", "edge.1.learner"),
        *("edge.0.explorer.0", "edge.0.explorer.1", "edge.1.explorer.0", "edge.1.explorer.1"),
        *("evaluator", "watcher"),
    ]


def test_a_group_that_is_there_once_changes_nothing() -> None:
    once, grouped_not = edges(1), edges(1)
    grouped_not["groups"] = {}
    specs = specs_of(once)
    assert list(specs) == list(specs_of(grouped_not))
    assert {spec.group for spec in specs.values()} == {"edge", ""}
    for name, spec in specs_of(grouped_not).items():
        assert (spec.seed, spec.ports, spec.index, spec.count) == (
            *(specs[name].seed, specs[name].ports, specs[name].index, specs[name].count),
        )


def test_within_a_group_a_name_means_those_of_the_same_instance() -> None:
    specs = specs_of(edges(3))
    for edge in range(3):
        assert specs[f"edge.{edge}.learner"].ports == {"replay": (f"edge.{edge}.replay",)}
        for explorer in range(2):
            assert specs[f"edge.{edge}.explorer.{explorer}"].ports == {
                "replay": (f"edge.{edge}.replay",),
                "weights": (f"edge.{edge}.learner",),
            }


def test_from_outside_a_name_means_those_of_all_instances() -> None:
    file = edges(3)
    file["actors"]["loners"] = {
        "role": example.Watcher,
        "ports": {"all_replays": ["replay"], "news": "learner"},
    }
    file["groups"]["watch"] = {"actors": ["loners"], "count": 2}
    specs = specs_of(file)
    learners = tuple(f"edge.{edge}.learner" for edge in range(3))
    assert specs["evaluator"].ports == {"weights": learners}
    assert specs["watcher"].ports == {"all_replays": tuple(f"edge.{edge}.replay" for edge in range(3))}
    assert specs["watch.1.loners"].ports["news"] == learners


def test_each_instance_is_supervised_by_itself() -> None:
    plan = check(edges(3))
    assert [group.name for group in plan.groups] == ["edge.0", "edge.1", "edge.2"]
    assert {group.strategy for group in plan.groups} == {"one-for-all"}
    for spec in plan.specs:
        assert spec.group == (".".join(spec.name.split(".")[:2]) if spec.name.startswith("edge") else "")


def test_index_and_count_go_over_all_instances() -> None:
    specs = specs_of(edges(3))
    explorers = [spec for name, spec in specs.items() if declared_name(name) == "explorer"]
    assert [(spec.index, spec.count) for spec in explorers] == [(index, 6) for index in range(6)]
    assert [specs[f"edge.{edge}.learner"].index for edge in range(3)] == [0, 1, 2]


def test_every_member_has_a_seed_of_its_own() -> None:
    specs = specs_of(edges(3))
    assert len({spec.seed for spec in specs.values()}) == len(specs)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (1, ["explorers"] * 6),
        (2, ["explorers.0", "explorers.0", "explorers.1", "explorers.1", "explorers.0", "explorers.0"]),
        (3, [f"explorers.{edge}" for edge in (0, 0, 1, 1, 2, 2)]),
        (6, [f"explorers.{index}" for index in range(6)]),
        (9, [f"explorers.{index}" for index in (0, 1, 3, 4, 6, 7)]),
        (5, [f"explorers.{index}" for index in (0, 0, 1, 2, 3, 4)]),
    ],
)
def test_instances_go_whole_to_nodes_or_nodes_whole_to_instances(nodes: int, expected: list[str]) -> None:
    plan = check(edges(3, explorers=nodes))
    node_of = {actor: node.name for node in plan.nodes for actor in node.actors}
    assert [spec.node for spec in plan.specs if declared_name(spec.name) == "explorer"] == expected
    assert [node_of[spec.name] for spec in plan.specs] == [spec.node for spec in plan.specs]


@settings(max_examples=50, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 12))
def test_no_node_is_shared_that_need_not_be(instances: int, nodes: int) -> None:
    file = edges(instances, explorers=nodes)
    used: dict[str, set[str]] = {}
    for spec in check(file).specs:
        if spec.node != "main":
            used.setdefault(spec.node, set()).add(spec.group)
    sharing = max(map(len, used.values()))
    assert sharing == -(-instances // min(nodes, instances))


def test_a_ref_from_outside_to_one_of_several_instances() -> None:
    file = edges(3)
    file["actors"]["watcher"]["ports"]["one"] = "replay"
    assert problem_of(file) == (
        "actors.watcher.ports.one",
        '"replay" is 3 actors, 1 in each instance of its group, but Ref[Insert] is wired to one actor',
        "declare the port as Group[Insert]",
    )


def test_a_ref_within_a_group_to_a_counted_actor() -> None:
    file = edges(3)
    file["actors"]["replay"]["count"] = 2
    with pytest.raises(TopologyError) as refused:
        check(file)
    problems = {problem.where: problem.problem for problem in refused.value.problems}
    assert problems["actors.learner.ports.replay"].startswith('"replay" has count 2, but')


@pytest.mark.parametrize("count", [0, -1, "two", 10_001, 1.5])
def test_a_wrong_count(count: object) -> None:
    file = edges()
    file["groups"]["edge"]["count"] = count
    assert problem_of(file)[0] == "groups.edge.count"


def test_more_members_than_can_be() -> None:
    file = edges(4000)
    file["actors"]["explorer"]["count"] = 3
    assert problem_of(file) == (
        "groups.edge.count",
        '4,000 times 3 members of "explorer" are 12,000',
        "at most 10,000 in all",
    )


def test_a_count_from_outside_the_file() -> None:
    assert len(check(edges(3), ["groups.edge.count=2"]).groups) == 2


def test_it_survives_writing() -> None:
    topology = load(edges(3))
    assert "count = 3" in to_toml(topology).partition("[groups.edge]")[2]
    assert "count" not in to_toml(load(edges(1))).partition("[groups.edge]")[2]


def test_made_in_python() -> None:
    table = GroupTable(actors=("loner",), count=2)
    topology = Topology(actors={"loner": cast_table()}, groups={"pair": table})
    assert [spec.name for spec in check(topology).specs] == ["pair.0.loner", "pair.1.loner"]


def cast_table() -> Any:
    from actorq.topology import ActorTable

    return ActorTable(role=example.Loner)


def all_names() -> Iterator[tuple[str, str, str]]:
    """(name, the same without its index, declared name) of what there can be."""
    for actor, prefix in itertools.product(["explorer", "0", "a-b"], ["", "edge.3.", "0.0."]):
        yield prefix + actor, prefix + actor, actor
        yield f"{prefix}{actor}.12", prefix + actor, actor


@pytest.mark.parametrize(("name", "stem", "declared"), list(all_names()))
def test_names_are_read_back(name: str, stem: str, declared: str) -> None:
    assert (without_index(name), declared_name(name)) == (stem, declared)


def test_whom_a_name_means_from_outside() -> None:
    topology = load(edges(2))
    first, second = [tuple(f"edge.{edge}.explorer.{index}" for index in range(2)) for edge in range(2)]
    assert called("explorer", topology) == first + second
    assert called("edge.1.explorer", topology) == second
    assert called("evaluator", topology) == ("evaluator",)
    for nobody in (
        "edge",
        "edge.1",
        "edge.2.explorer",
        "edge.1.evaluator",
        "edge.1.explorer.0",
        "nobody",
        "",
    ):
        assert called(nobody, topology) == ()


def test_memory_counts_all_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example.Replay, "memory", classmethod(lambda cls, spec, specs: [("frames", 100)]))
    (need,) = memory_needs(check(edges(3)))
    assert (need.actor, need.count, need.bytes) == ("replay", 3, 100)
