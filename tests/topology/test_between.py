"""Problems between actors, which roles report once each actor by itself is valid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from actorq.actors import Actor, ActorSpec, Group, Message, handles
from actorq.topology import TopologyError, check


class Knock(Message):
    pass


class Door(Actor):
    @handles
    async def knock(self, _: Knock) -> None:
        pass


class Caller(Actor):
    doors: Group[Knock]

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, str]]:
        doors = spec.ports["doors"]
        if len(doors) < specs[spec.name].count:
            yield "ports.doors", f"{len(doors)} doors for {spec.count} callers"


def topology(doors: int, callers: int, **wrong: Any) -> dict[str, Any]:
    return {
        "name": "party",
        "actors": {
            "door": {"role": Door, "count": doors},
            "caller": {"role": Caller, "count": callers, "ports": {"doors": "door"}, **wrong},
        },
    }


@pytest.mark.parametrize("callers", [2, 1])
def test_enough_doors_are_fine(callers: int) -> None:
    assert len(check(topology(2, callers)).specs) == 2 + callers


def test_a_wiring_problem_is_reported_once_at_its_place() -> None:
    with pytest.raises(TopologyError) as refused:
        check(topology(1, 3))
    (problem,) = refused.value.problems
    assert (problem.where, problem.problem) == ("actors.caller.ports.doors", "1 doors for 3 callers")


def test_it_is_not_asked_before_the_rest_is_right() -> None:
    with pytest.raises(TopologyError) as refused:
        check(topology(1, 3, nonsense=1))
    assert [problem.where for problem in refused.value.problems] == ["actors.caller.nonsense"]
