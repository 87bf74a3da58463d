"""Tables that roles declare: one that may be missing, and one that is a list."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from actorq.actors import Actor, Table
from actorq.topology import ActorTable, Topology, TopologyError, check


class Lamp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    watts: Annotated[int, msgspec.Meta(gt=0)]
    colour: str = "white"

    def problems(self) -> list[tuple[str, str]]:
        return [("watts", "is far too many")] if self.watts > 1000 else []


Lamps = Annotated[tuple[Lamp, ...], msgspec.Meta(min_length=1)]


class Room(Actor):
    lamp: Table[Lamp | None] = None
    lamps: Table[Lamps | None] = None


class Dark(Actor):
    lamp: Table[Lamp]


def room(*roles: type[Actor], **tables: Any) -> Topology:
    actors = {role.__name__.lower(): ActorTable(role=role) for role in roles or (Room,)}
    return Topology(name="house", actors=actors, tables=tables)


def wrong(topology: Topology, *overrides: str) -> dict[str, str]:
    with pytest.raises(TopologyError) as caught:
        check(topology, overrides)
    return {problem.where: problem.problem for problem in caught.value.problems}


def test_a_table_that_may_be_missing() -> None:
    assert check(room()).tables == {"lamp": None, "lamps": None}
    assert check(room(lamp={"watts": 5})).tables == {"lamp": Lamp(5), "lamps": None}


def test_a_table_that_one_reader_requires_is_required() -> None:
    assert wrong(room(Room, Dark)) == {"lamp.watts": "missing"}
    assert wrong(room(Dark, Room)) == {"lamp.watts": "missing"}
    assert check(room(Dark, Room, lamp={"watts": 5})).tables["lamp"] == Lamp(5)


def test_a_list_of_tables() -> None:
    lamps = [{"watts": 5}, Lamp(7, "red")]
    assert check(room(lamps=lamps)).tables["lamps"] == (Lamp(5), Lamp(7, "red"))
    changed = check(room(lamps=lamps), ["lamps.1.colour=blue", "lamps.0.watts=6"])
    assert changed.tables["lamps"] == (Lamp(6), Lamp(7, "blue"))
    assert lamps == [{"watts": 5}, Lamp(7, "red")], "an override changes no one's own list"


def test_each_problem_of_a_list_is_reported_at_its_place() -> None:
    found = wrong(room(lamps=[{"watts": 2000}, {"watts": 5}]))
    assert found == {"lamps[0].watts": "is far too many"}
    found = wrong(room(lamps=[{"wats": 5}, {"watts": -1}]))
    assert set(found) == {"lamps[0].wats", "lamps[0].watts", "lamps[1].watts"}
    assert set(wrong(room(lamps=[]))) == {"lamps"}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("lamps.2.watts=5", "lamps is a list of 2"),
        ("lamps.red.watts=5", "lamps is a list of 2"),
        ("lamps.0=5", "lamps is no table"),
        ("lamps.0.watts.more=5", "lamps.0.watts is a single value, not a table"),
    ],
)
def test_an_override_that_misses_its_list(override: str, problem: str) -> None:
    found = wrong(room(lamps=[{"watts": 5}, {"watts": 7}]), override)
    assert found == {f"--set {override}": problem}
