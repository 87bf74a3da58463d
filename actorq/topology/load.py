"""Sources of topologies: a file, a shipped recipe, a dict, or structs made in Python."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actorq.actors.spec import MAIN

from .check.convert import plain
from .check.problems import Problem, TopologyError
from .overrides import apply_overrides
from .schema import OWN_KEYS, NodeTable, Topology
from .suggest import suggestion

Source = str | Path | Mapping[str, Any] | Topology
"""A .toml file's path, a recipe's name, the file's content as a dict, or a Topology."""

_PACKAGE = Path(__file__).parent.parent
_RECIPE_FOLDERS = (_PACKAGE / "_recipes", _PACKAGE.parent / "recipes")  # in the wheel; in a checkout
_AT_LINE = re.compile(r"\s*\(at line (\d+), column (\d+)\)$")


@dataclass(frozen=True, slots=True)
class Document:
    """A topology as tables of plain values, unchecked."""

    tables: dict[str, Any]
    origin: str
    """The file it was read from, for messages; "" for one made in Python."""


def read(source: Source, overrides: Sequence[str] = (), transport: str | None = None) -> Document:
    """The source's tables, with overrides applied and all nodes put on `transport`, if given.

    Raises TopologyError if there is no such file, if it isn't TOML, or for a wrong override.
    """
    if isinstance(source, str | Path):
        path = find(source)
        tables, origin = _parse(path), str(source)
        tables.setdefault("name", re.sub(r"[^A-Za-z0-9_-]", "-", path.stem))
        _add_folders(tables, path.parent.resolve())
    elif isinstance(source, Topology):
        tables, origin = _tables_of(source), ""
    else:
        tables, origin = _copied(source), ""
    problems = apply_overrides(tables, overrides)
    if problems:
        raise TopologyError(problems, origin)
    if transport is not None:
        _put_on(tables, transport)
    return Document(tables, origin)


def recipes() -> dict[str, Path]:
    """The shipped topology files by name: `actorq run NAME` finds them without a path."""
    return {path.stem: path for folder in _RECIPE_FOLDERS for path in sorted(folder.glob("*.toml"))}


def find(source: str | Path) -> Path:
    """The file of a path or a recipe's name. Raises TopologyError if there is none."""
    path = Path(source)
    bare = isinstance(source, str) and path.name == source and path.suffix != ".toml"
    if bare and not path.is_file():
        if source not in recipes():
            hint = suggestion(str(source), recipes(), "recipes")
            raise TopologyError(
                [Problem(str(source) or '""', "no file and no recipe of this name", hint)], str(source)
            )
        return recipes()[str(source)]
    if path.is_dir():
        raise TopologyError([Problem(str(path), "is a folder", "give a .toml file")], str(path))
    return path


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = [other.name for other in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        hint = suggestion(path.name, sorted(near), "topology files beside it", lambda name: Path(name).stem)
        problem = Problem(str(path), "no such file", hint)
    except UnicodeDecodeError as error:
        problem = Problem(str(path), f"is not UTF-8 text ({error.reason} at byte {error.start})")
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            problem = _syntax_problem(path, error)
        else:
            problem = Problem(str(path), f"can't be read: {getattr(error, 'strerror', None) or error}")
    raise TopologyError([problem], str(path))


def _syntax_problem(path: Path, error: tomllib.TOMLDecodeError) -> Problem:
    text = str(error)
    at = _AT_LINE.search(text)
    where = f"{path}, line {at[1]}, column {at[2]}" if at else str(path)
    return Problem(where, f"not TOML: {_AT_LINE.sub('', text)}")


def _add_folders(tables: dict[str, Any], folder: Path) -> None:
    """Complete `python_path`: the file's own folder first, the others relative to it."""
    declared = tables.get("python_path", [])
    if isinstance(declared, list) and all(isinstance(entry, str) for entry in declared):
        folders = [str(folder), *(str(folder / entry) for entry in declared)]
        tables["python_path"] = list(dict.fromkeys(folders))


def _tables_of(topology: Topology) -> dict[str, Any]:
    own = {key: value for key, value in plain(topology).items() if key != "tables"}
    own["nodes"] = {name: _node_table(node) for name, node in topology.nodes.items()}
    clashing = [key for key in topology.tables if key in OWN_KEYS]
    if clashing:
        problems = [
            Problem(f"tables.{key}", "is a key of topology's own; no role's table") for key in clashing
        ]
        raise TopologyError(problems)
    return {key: _copied(value) for key, value in {**own, **topology.tables}.items()}


def _node_table(node: Any) -> Any:
    """A node's keys as written in a file."""
    if not isinstance(node, NodeTable):
        return node
    table = plain(node)
    options = table.pop("options")
    return {**table, **options}


def _copied(value: Any) -> Any:
    """Tables of tables as new dicts, which overrides may change."""
    value = plain(value)
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value


def _put_on(tables: dict[str, Any], transport: str) -> None:
    nodes = tables.setdefault("nodes", {})
    if isinstance(nodes, dict):
        nodes.setdefault(
            MAIN, {}
        )  # exists without being declared, and is put on the transport like the others
        for node in nodes.values():
            if isinstance(node, dict):
                node["transport"] = transport
