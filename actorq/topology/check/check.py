"""Check of a topology: all problems are reported at once, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from actorq.actors.actor import Actor
from actorq.actors.spec import ActorSpec
from actorq.topology.load import Document, Source, read
from actorq.topology.plan import Plan
from actorq.topology.schema import OWN_KEYS, Topology

from .actor_specs import actor_specs, settle
from .convert import UNUSABLE, convert
from .groups import check_groups, group_specs
from .launchers import gather_options, read_launchers
from .members import members_of
from .nodes import check_importable, check_nodes, place
from .ports import Roles, check_ports
from .problems import Problems, TopologyError
from .renamed_keys import rename_keys
from .roles import RoleError, extend_import_path, find_role
from .tables import add_reported, read_tables


def load(source: Source, overrides: Sequence[str] = (), *, transport: str | None = None) -> Topology:
    """The topology as declared, with overrides applied; arguments and errors as of `check`."""
    return check(source, overrides, transport=transport).topology


def check(source: Source, overrides: Sequence[str] = (), *, transport: str | None = None) -> Plan:
    """The plan of a valid topology, ready to be started.

    `source` is a .toml file's path, a shipped recipe's name, the same content as a dict, or a Topology;
    `overrides` are texts such as "agent.n_step=5"; `transport` puts all nodes on one transport. The file's
    own folder is put at the front of Python's import path, so that a module beside the file can be a role.

    Raises TopologyError with all problems.
    """
    document = read(source, overrides, transport)
    problems = Problems()
    topology = _read_topology(document, problems)
    actors, nodes = _names(document, "actors"), _names(document, "nodes")
    roles = _find_roles(topology, problems)
    topology = rename_keys(topology, roles)
    all_found = bool(actors) and len(roles) == len(actors)
    tables = read_tables(topology, roles, all_found, problems)
    launchers = read_launchers(topology, problems)
    check_nodes(topology, nodes, launchers, problems)
    check_importable(topology, roles, launchers, problems)
    check_ports(topology, roles, actors, problems)
    check_groups(topology, actors, problems)
    _check_stop(topology, roles, all_found, problems)
    given = {name: settle(name, cls, topology, tables, problems) for name, cls in roles.items()}
    if problems:
        raise TopologyError(problems.found(), document.origin)
    node_of, node_specs = place(topology, launchers)
    specs = [
        spec for name, cls in roles.items() for spec in actor_specs(name, cls, topology, given[name], node_of)
    ]
    _check_between(specs, topology, roles, problems)
    if problems:
        raise TopologyError(problems.found(), document.origin)
    return Plan(
        topology=topology, specs=tuple(specs), groups=group_specs(topology), nodes=node_specs, tables=tables
    )


def _read_topology(document: Document, problems: Problems) -> Topology:
    own = {key: value for key, value in document.tables.items() if key in OWN_KEYS}
    others = {key: value for key, value in document.tables.items() if key not in OWN_KEYS}
    if "nodes" in own:
        own["nodes"] = gather_options(own["nodes"])
    topology: Topology = convert({**own, "tables": others}, Topology, "", problems)
    if topology.actors is UNUSABLE:
        return msgspec.structs.replace(topology, actors={})
    if not topology.actors and not problems.touch("actors"):
        problems.add("actors", "there are none", "a topology needs at least one [actors.NAME]")
    return topology


def _names(document: Document, table: str) -> list[str]:
    """The names declared in a table, valid or not."""
    declared = document.tables.get(table)
    return [str(name) for name in declared] if isinstance(declared, Mapping) else []


def _find_roles(topology: Topology, problems: Problems) -> dict[str, type[Actor]]:
    extend_import_path(topology.python_path)
    roles = {}
    for name, actor in topology.actors.items():
        if actor.role is not UNUSABLE:
            try:
                roles[name] = find_role(actor.role, topology.python_path)
            except RoleError as error:
                problems.add(f"actors.{name}.role", error.problem, error.hint)
    return roles


def _check_stop(topology: Topology, roles: Roles, all_found: bool, problems: Problems) -> None:
    read = any("stop" in cls.definition.tables for cls in roles.values())
    if topology.stop.solved is not None and all_found and not read:
        problems.add(
            "stop.solved", "no actor would measure it", 'it takes an actor that evaluates: role "evaluator"'
        )


def _check_between(specs: Sequence[ActorSpec], topology: Topology, roles: Roles, problems: Problems) -> None:
    """Collect each role's problems with the wiring between its actor and others."""
    by_name = {spec.name: spec for spec in specs}
    for name, cls in roles.items():
        first = by_name[members_of(name, topology)[0].name]
        where = f"actors.{name}"
        add_reported(
            partial(cls.wiring_problems, first, by_name), partial("{}.{}".format, where), where, problems
        )
