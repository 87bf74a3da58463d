"""The package has what pyproject.toml declares."""

import re
import tomllib
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path

import pytest

import actorq

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [(group, name) for group, names in PROJECT["entry-points"].items() for name in names]


@pytest.mark.parametrize(("group", "name"), DECLARED)
def test_entry_point_leads_to_a_class(group: str, name: str) -> None:
    (found,) = entry_points(group=group, name=name)
    assert isinstance(found.load(), type)


@pytest.mark.parametrize("name", actorq.__all__)
def test_public_name_is_there(name: str) -> None:
    assert getattr(actorq, name) is not None
    assert name in dir(actorq)


def test_every_dependency_is_pinned() -> None:
    wanted = list(chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()))
    names = {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in wanted} - {"actorq"}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "exact versions, and no address"
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    assert names <= pinned, f"constraints.txt lacks {', '.join(sorted(names - pinned))}"
