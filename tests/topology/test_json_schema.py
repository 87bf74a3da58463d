"""The JSON Schema accepts valid files and refuses the mistakes that it can express."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import jsonschema
import pytest

from actorq.topology import json_schema, list_roles
from actorq.topology.check import roles

from . import actors as example
from .check.test_wrong_files import put

BUILT_IN = {
    "evaluator": example.role(example.Evaluator),
    "environment": example.role(example.Explorer),
    "learner": example.role(example.Learner),
    "replay": example.role(example.Replay),
    "watcher": example.role(example.Watcher),
    "needy": example.role(example.NeedsConfig),
    "broken": "no_such_module:Class",
}


@pytest.fixture
def validator(monkeypatch: pytest.MonkeyPatch) -> jsonschema.Draft7Validator:
    points = {name: EntryPoint(name, value, roles.ENTRY_POINTS) for name, value in BUILT_IN.items()}
    monkeypatch.setattr(roles, "entry_points_of", lambda group: points)
    schema = json_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def with_built_in_roles() -> dict[str, Any]:
    file = example.hierarchy()
    names = {path: name for name, path in BUILT_IN.items()}
    for actor in file["actors"].values():
        actor["role"] = names[actor["role"]]
    return file


@pytest.mark.parametrize("make", [example.hierarchy, with_built_in_roles], ids=["own classes", "built-in"])
def test_good_files(make: Callable[[], dict[str, Any]], validator: jsonschema.Draft7Validator) -> None:
    assert list(validator.iter_errors(make())) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("memory", {"of": "an own class"}),
        ("actors/explorer/ports/weights", ["learner", "other"]),
        ("actors/own", {"role": "my_module:Mine", "config": {"a": 1}, "ports": {"x": "replay", "y": ["a"]}}),
        ("actors/own", {"role": "needy", "config": {"path": "x"}}),
        ("agent/clip", 1.5),
        ("agent/head", {"width": 3}),
        ("stop", {}),
    ],
)
def test_more_that_is_good(path: str, value: Any, validator: jsonschema.Draft7Validator) -> None:
    file = with_built_in_roles()
    put(path, value)(file)
    assert list(validator.iter_errors(file)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sede", 3),
        ("seed", "one"),
        ("name", "a/b"),
        ("backend", "curio"),
        ("actors", {}),
        ("stop/env_step", 5),
        ("stop/solved", {"episodes": 5}),
        ("agent/n_steps", 3),
        ("agent/hidden", [64, 0]),
        ("agent/loss", "hubert"),
        ("agent/clip", 0),
        ("task", {}),
        ("nodes/explorers/place", "cloud"),
        ("nodes/a b", {}),
        ("groups/core/actors", []),
        ("groups/core/strategy", "one-for-two"),
        ("groups/core/count", 0),
        ("actors/a.b", {"role": "replay"}),
        ("actors/replay/role", "replai"),
        ("actors/replay/cuont", 2),
        ("actors/replay/count", 0),
        ("actors/replay/config/capactiy", 1),
        ("actors/replay/config/alpha", 1.5),
        ("actors/learner/ports", {}),
        ("actors/learner/ports/replai", "replay"),
        ("actors/learner/ports/replay", ["replay"]),
        ("actors/learner/ports/weights", "replay"),
        ("actors/explorer/ports/weights", []),
        ("actors/own", {"role": "needy"}),
        ("actors/own", {"config": {}}),
    ],
)
def test_wrong_files(path: str, value: Any, validator: jsonschema.Draft7Validator) -> None:
    file = with_built_in_roles()
    wrong = copy.deepcopy(file)
    put(path, value)(wrong)
    assert validator.is_valid(file)
    assert not validator.is_valid(wrong)


def test_editors_find_descriptions(validator: jsonschema.Draft7Validator) -> None:
    schema: Any = validator.schema
    assert (
        schema["definitions"]["Agent"]["properties"]["n_step"]["description"] == "steps until the bootstrap"
    )
    assert schema["properties"]["agent"]["$ref"] == "#/definitions/Agent"
    choices = schema["properties"]["actors"]["additionalProperties"]["anyOf"]
    by_role = {choice["properties"]["role"].get("const"): choice for choice in choices}
    assert by_role["replay"]["properties"]["role"]["description"] == "Keeps experience."
    assert by_role["learner"]["properties"]["ports"]["properties"]["replay"]["description"] == "Ref[Sample]"
    assert "null" not in str(schema)


@pytest.mark.usefixtures("validator")
def test_roles_in_words() -> None:
    told = {role.name: role for role in list_roles()}
    assert told["broken"].summary == "can't be used: there is no module no_such_module"
    watcher = told["watcher"]
    assert watcher.path == "tests.topology.actors:Watcher"
    assert watcher.handles == ("Weights", "Heat")
    assert watcher.ports[:2] == ("all_replays: Group[Insert | Sample]", "one: Ref[Insert] | None")
    assert told["learner"].tables == ("agent", "task")


def test_the_installed_roles_can_be_used() -> None:
    assert [role.name for role in list_roles() if role.summary.startswith("can't be used")] == []
