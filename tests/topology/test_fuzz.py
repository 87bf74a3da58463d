"""Fuzzing of topology files: checking any content ends in a Plan or in TopologyError."""

from __future__ import annotations

import copy
import datetime
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.topology import Plan, Topology, TopologyError, check, draw, json_schema, to_mermaid, to_toml
from actorq.topology.schema import OWN_KEYS, ActorTable, GroupTable, NodeTable, Stop

from . import actors as example

WORDS = st.sampled_from(
    [*OWN_KEYS, *ActorTable.__struct_fields__, *GroupTable.__struct_fields__]
    + [*NodeTable.__struct_fields__, *Stop.__struct_fields__]
    + ["agent", "task", "n_step", "hidden", "return", "replay", "learner", "explorer", "weights", "main"]
    + [
        example.role(cls)
        for cls in (example.Replay, example.Learner, example.Explorer, example.Watcher, example.Loner)
    ]
    + ["process", "inproc", "always", "one-for-all", "trio", "CartPole-v1"]
)
TEXT = st.one_of(WORDS, st.text(max_size=5))
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-3, 300),
    st.integers(),
    st.floats(),
    TEXT,
    st.just(datetime.date(2024, 1, 1)),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3))
)
QUICK = settings(max_examples=100, derandomize=True)


def checked(file: Any, overrides: list[str] | None = None) -> Plan | None:
    """Any other exception than TopologyError fails the test that calls this."""
    try:
        plan = check(file, overrides or [])
    except TopologyError as error:
        refusal = error
    else:
        draw(plan)
        to_mermaid(plan)
        return plan
    assert refusal.problems
    assert all(problem.where and problem.problem for problem in refusal.problems)
    assert len(str(refusal).splitlines()) == 1 + len(refusal.problems)
    assert "object at 0x" not in str(refusal)
    return None


def places(table: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each table, key and list item."""
    if path:
        yield path
    items = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


@QUICK
@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_any_tables(file: dict[str, Any]) -> None:
    checked(file)


@QUICK
@given(st.data())
def test_a_good_file_with_things_changed(data: st.DataObject) -> None:
    file = copy.deepcopy(data.draw(st.sampled_from([example.hierarchy(), example.edges(2, explorers=2)])))
    for _ in range(data.draw(st.integers(1, 3))):
        *tables, last = data.draw(st.sampled_from(sorted(places(file), key=repr)))
        table: Any = file
        for key in tables:
            table = table[key]
        match data.draw(st.sampled_from(["replace", "remove", "rename", "add"])):
            case "replace":
                table[last] = data.draw(VALUES)
            case "remove":
                del table[last]
            case "rename" if isinstance(table, dict):
                table[data.draw(TEXT)] = table.pop(last)
            case _ if isinstance(table, dict):
                table[data.draw(TEXT)] = data.draw(VALUES)
        if not file:
            return
    checked(file)


@QUICK
@given(
    st.lists(st.one_of(st.text(max_size=12), st.builds("{}.{}={}".format, WORDS, WORDS, TEXT)), max_size=3)
)
def test_any_overrides(overrides: list[str]) -> None:
    checked(example.hierarchy(), overrides)


@QUICK
@given(st.dictionaries(TEXT, VALUES, max_size=3))
def test_what_toml_can_hold_survives_writing(gains: dict[str, Any]) -> None:
    """Tables of a user's own hold anything; `to_toml` writes them so that they read back."""
    topology = Topology(actors={"loner": ActorTable(role=example.Loner)}, tables={"mine": gains})
    back = tomllib.loads(to_toml(topology))
    assert repr(in_order(back["mine"])) == repr(in_order(gains))


def in_order(value: Any) -> Any:
    """With keys sorted; repr then tells 1, 1.0 and true apart, and finds nan equal to nan."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    return [in_order(item) for item in value] if isinstance(value, list) else value


def test_the_shipped_recipes() -> None:
    for recipe in sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")):
        check(recipe)


def test_json_schema_can_be_made() -> None:
    assert json_schema()["required"] == ["actors"]
