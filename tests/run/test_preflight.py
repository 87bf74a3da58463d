"""Preflight checks: what actors lack on this machine and in a checkpoint, before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actorq.actors import State, Table
from actorq.roles.parameter_server.shard import ParameterServer
from actorq.run.open_run import RunOptions, prepare
from actorq.run.preflight import check_machine, check_states
from actorq.run.records.checkpoint import CheckpointError
from actorq.topology import Plan, Stop, TopologyError, check

from .toy import Counter, topology


class Demanding(Counter):
    stop: Table[Stop]

    @classmethod
    def machine_problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        yield "config.arm", "there is no arm"
        if tables["stop"].updates:
            yield "stop.updates", "takes an arm"

    @classmethod
    def state_problems(
        cls, config: Any, tables: Mapping[str, Any], state: State
    ) -> Iterable[tuple[str, str]]:
        if state["total"] > 3:
            yield "config", "can't count so far"


def wanted(count: int = 1, **tables: Any) -> Plan:
    return check(topology(actors={"demanding": {"role": Demanding, "count": count}}, **tables))


PATH = Path("run/checkpoints/checkpoint-000001")
TOLD = "run/checkpoints/checkpoint-000001: the topology can't resume from it:\n  actors.demanding"


def test_a_missing_requirement_is_reported_before_the_folder_is_made(tmp_path: Path) -> None:
    plan = wanted(count=3, stop={"updates": 5})
    with pytest.raises(TopologyError) as refused:
        prepare(RunOptions(source=plan.topology, out=tmp_path / "run"))
    assert str(refused.value) == (
        "toy, on this machine, has 2 problems:\n"
        "  actors.demanding.config.arm: there is no arm\n"
        "  stop.updates: takes an arm"
    )
    assert not (tmp_path / "run").exists()


def test_another_host_is_not_this_machine() -> None:
    plan = wanted()
    (main,) = plan.nodes
    for node in (replace(main, place="host"), replace(main, place="process", transport="wire")):
        with pytest.raises(TopologyError):
            check_machine(replace(plan, nodes=(node,)))
    check_machine(replace(plan, nodes=(replace(main, place="host", transport="wire"),)))


def test_states_are_shown_to_their_owners() -> None:
    plan = wanted(count=3)
    check_states(plan, {}, PATH)
    check_states(plan, {"demanding.0": {"total": 3}, "demanding.1": {}, "counter": {"total": 9}}, PATH)
    with pytest.raises(CheckpointError) as refused:
        check_states(plan, {"demanding.0": {"total": 4}, "demanding.2": {"total": 5}}, PATH)
    assert str(refused.value) == f"{TOLD}.config: can't count so far"


def test_a_state_of_another_role_is_no_bug() -> None:
    with pytest.raises(CheckpointError) as refused:
        check_states(wanted(), {"demanding": {"parameters": 1}}, PATH)
    assert str(refused.value) == f"{TOLD}: its own check failed: KeyError: 'total'"


class Divided(Counter):
    one_state = True


def divided(count: int) -> Plan:
    return check(topology(actors={"server": {"role": Divided, "count": count}}))


@pytest.mark.parametrize(("count", "saved"), [(1, 2), (3, 2), (2, 1)])
def test_one_state_in_parts_is_refused_to_another_count(count: int, saved: int) -> None:
    names = [f"server.{part}" for part in range(saved)] if saved > 1 else ["server"]
    states = {name: {"total": 1} for name in [*names, "counter"]}
    check_states(divided(saved), states, PATH)
    check_states(divided(count), {}, PATH)
    with pytest.raises(CheckpointError, match=rf"actors\.server\.count: is {count}, but .* in {saved} parts"):
        check_states(divided(count), states, PATH)


def in_edges(edges: int, count: int = 2) -> Plan:
    actors = {"server": {"role": Divided, "count": count}, "scribe": {"role": Counter}}
    return check(topology(actors=actors, groups={"edge": {"actors": list(actors), "count": edges}}))


def states_of(plan: Plan) -> dict[str, State]:
    return {spec.name: {"total": 1} for spec in plan.specs}


@pytest.mark.parametrize("edges", [2, 3, 4])
def test_an_instance_that_is_new_begins_anew(edges: int) -> None:
    check_states(in_edges(edges), states_of(in_edges(3)), PATH)
    with pytest.raises(CheckpointError, match=r"actors\.server\.count: is 3, but .* in 2 parts") as refused:
        check_states(in_edges(edges, count=3), states_of(in_edges(3)), PATH)
    assert str(refused.value).count("server") == 1


@pytest.mark.parametrize(("edges", "saved"), [(1, 2), (2, 1)])
def test_no_actor_finds_its_state_when_a_group_becomes_repeated(edges: int, saved: int) -> None:
    with pytest.raises(
        CheckpointError, match=r"groups\.edge\.count: the state was saved of .*server"
    ) as refused:
        check_states(in_edges(edges), states_of(in_edges(saved)), PATH)
    assert str(refused.value).count("groups.edge") == 1


def test_a_state_problem_of_a_grouped_actor_names_the_actor() -> None:
    plan = check(
        topology(
            actors={"demanding": {"role": Demanding}}, groups={"g": {"actors": ["demanding"], "count": 2}}
        )
    )
    with pytest.raises(CheckpointError) as refused:
        check_states(plan, {"g.1.demanding": {"total": 4}}, PATH)
    assert str(refused.value) == f"{TOLD}.config: can't count so far"


def test_a_parameter_server_is_such_a_state() -> None:
    assert ParameterServer.one_state
