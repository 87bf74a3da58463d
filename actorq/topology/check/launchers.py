"""Launchers: the classes that start the nodes of a `place`, found by name among the installed ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol

import msgspec

from actorq.actors.entry_points import entry_points_of
from actorq.topology.schema import HERE, NODE_KEYS, Topology
from actorq.topology.suggest import suggestion

from .convert import UNUSABLE, below, convert
from .problems import Problems
from .tables import add_reported

ENTRY_POINTS = "actorq.launchers"


class LauncherType(Protocol):
    """The part of a launcher that a topology is checked with; `actorq.launchers.NodeLauncher` documents
    it.
    """

    on_network: ClassVar[bool]
    needs_importable: ClassVar[bool]

    @property
    def Options(self) -> type[msgspec.Struct]: ...

    def problems(self, options: Any) -> Iterable[tuple[str, str]]: ...


Launchers = Mapping[str, LauncherType]
"""Node name to launcher class, of the declared nodes whose `place` is installed and not "here"."""


def installed_launchers() -> list[str]:
    """The names of the launchers that installed packages offer."""
    return list(entry_points_of(ENTRY_POINTS))


def find_launcher(name: str) -> LauncherType:
    """The class of an installed launcher. Raises KeyError, and what importing it raises."""
    found: LauncherType = entry_points_of(ENTRY_POINTS)[name].load()
    return found


def read_launchers(topology: Topology, problems: Problems) -> dict[str, LauncherType]:
    """Each node's launcher class, its options checked."""
    found: dict[str, LauncherType] = {}
    installed = installed_launchers()
    for name, node in topology.nodes.items():
        where = f"nodes.{name}"
        for key in node.options:
            if key not in installed:
                known = [*NODE_KEYS, *installed]
                problems.add(below(where, key), "unknown key", suggestion(str(key), known, "known keys"))
        if node.place not in (HERE, *installed):
            hint = suggestion(node.place, [HERE, *installed], "installed")
            problems.add(f"{where}.place", f'unknown launcher "{node.place}"', hint)
        elif node.place != HERE:
            try:
                found[name] = find_launcher(node.place)
            except Exception as error:  # a third party's module may raise anything
                problem = f'launcher "{node.place}" can\'t be imported: {type(error).__name__}: {error}'
                problems.add(f"{where}.place", problem)
            else:
                read_options(topology, name, found[name], problems)
    return found


def read_options(topology: Topology, node: str, launcher: LauncherType, problems: Problems) -> Any:
    """A node's options as the launcher's `Options`; UNUSABLE if they are wrong."""
    table = topology.nodes[node]
    where = f"nodes.{node}.{table.place}"
    before = len(problems)
    options = convert(table.options.get(table.place, {}), launcher.Options, where, problems)
    if len(problems) == before:
        add_reported(partial(launcher.problems, options), partial(below, where), where, problems)
    return options if len(problems) == before else UNUSABLE


def gather_options(nodes: Any) -> Any:
    """A file's `[nodes]`, with launchers' tables such as `[nodes.far.ssh]` moved into each node's `options`.

    Includes all unknown keys; `read_launchers` refuses those that name no launcher.
    """
    if not isinstance(nodes, Mapping):
        return nodes
    return {name: _gathered(node) if isinstance(node, Mapping) else node for name, node in nodes.items()}


def _gathered(node: Mapping[Any, Any]) -> dict[Any, Any]:
    own = {key: value for key, value in node.items() if key in NODE_KEYS}
    return {**own, "options": {key: value for key, value in node.items() if key not in NODE_KEYS}}
