"""Checks of nodes, and the assignment of actors to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from actorq.actors.actor import Actor
from actorq.actors.spec import MAIN
from actorq.actors.wire.transport import installed_transports
from actorq.topology.address import parse_address
from actorq.topology.plan import NodeSpec, Plan
from actorq.topology.schema import HERE, INPROC, NodeTable, Topology
from actorq.topology.suggest import quoted, suggestion

from .launchers import Launchers, find_launcher, read_options
from .members import instances_of, members_of, numbered
from .problems import Problems


def check_nodes(topology: Topology, known: list[str], launchers: Launchers, problems: Problems) -> None:
    """`known`: the declared nodes, including wrong ones."""
    transports = installed_transports()
    for name, node in topology.nodes.items():
        if node.transport not in transports:
            problem = f'transport "{node.transport}" is not installed'
            hint = f"installed: {quoted(transports)}; --transport {INPROC} puts all nodes on {INPROC}"
            problems.add(f"nodes.{name}.transport", problem, hint)
    _check_main(topology, problems)
    _check_network(topology, launchers, problems)
    for name, actor in topology.actors.items():
        if actor.node not in known and actor.node != MAIN:
            hint = suggestion(actor.node, dict.fromkeys([MAIN, *known]), "nodes")
            problems.add(f"actors.{name}.node", f'unknown node "{actor.node}"', hint)
    processes = 1 + sum(node.count for name, node in topology.nodes.items() if is_elsewhere(node))
    if topology.deterministic and processes > 1:
        problem = f"true, but the nodes take {processes} processes; a deterministic run has one"
        problems.add("deterministic", problem, f"--transport {INPROC} puts all nodes on {INPROC}")


def _check_main(topology: Topology, problems: Problems) -> None:
    main = topology.nodes.get(MAIN, NodeTable())
    if main.place != HERE:
        problems.add(
            "nodes.main.place", f'"{main.place}", but main is always the caller\'s process', 'use "here"'
        )
    if main.count != 1:
        problems.add("nodes.main.count", f"{main.count}, but main is one process, the caller's")
    if main.address is not None:
        _check_address(main.address, problems)
    for name, node in topology.nodes.items():
        for key in ("address", "insecure"):
            if name != MAIN and getattr(node, key):
                hint = f"put it into [nodes.{MAIN}]: nodes of other hosts come to main"
                problems.add(f"nodes.{name}.{key}", "only main has one", hint)


def _check_address(text: str, problems: Problems) -> None:
    try:
        address = parse_address(text)
    except ValueError as error:
        problems.add("nodes.main.address", f'found "{text}"', str(error))
        return
    if address.is_wildcard:
        hint = "give the one by which the other hosts reach this one"
        problems.add(
            "nodes.main.address", f'"{text}" means all interfaces, and is no address for peers', hint
        )


def _check_network(topology: Topology, launchers: Launchers, problems: Problems) -> None:
    """Requirements of nodes in several processes, and on several hosts."""
    installed = installed_transports()
    elsewhere = {
        name: node.transport
        for name, node in topology.nodes.items()
        if is_elsewhere(node) and node.transport in installed
    }
    first = next(iter(elsewhere.values()), "")
    for name, transport in elsewhere.items():
        if transport != first:
            hint = f"use one for all nodes that are not on {INPROC}"
            problems.add(f"nodes.{name}.transport", f'"{transport}", while others are on "{first}"', hint)
    main = topology.nodes.get(MAIN, NodeTable())
    hosts = [name for name in launchers if launchers[name].on_network and is_elsewhere(topology.nodes[name])]
    if hosts and main.address is None and not problems.at("nodes.main.address"):
        hint = 'such as [nodes.main] address = "tcp://10.0.0.1:7070"'
        problems.add("nodes.main.address", f'missing: node "{hosts[0]}" joins from another host', hint)
    if hosts and not main.insecure and find_spec("cryptography") is None:
        problem = "false, and TLS needs the package cryptography, which is not installed"
        problems.add("nodes.main.insecure", problem, "pip install cryptography; true goes without TLS")


def check_importable(
    topology: Topology, roles: Mapping[str, type[Actor]], launchers: Launchers, problems: Problems
) -> None:
    """Nodes of some launchers import the actors' classes by name: no code is sent to them."""
    nodes = [
        name
        for name, launcher in launchers.items()
        if launcher.needs_importable and is_elsewhere(topology.nodes[name])
    ]
    if not nodes:
        return
    for name, cls in roles.items():
        where = ""
        if cls.__module__ == "__main__":
            where = "in __main__"
        elif "<locals>" in cls.__qualname__:
            where = "inside a function"
        if where:
            problem = (
                f'{cls.__qualname__} is defined {where}: node "{nodes[0]}" on another host can\'t import it'
            )
            problems.add(f"actors.{name}.role", problem, "move it to the top of a module that both have")


def is_elsewhere(node: NodeTable | NodeSpec) -> bool:
    """Whether it runs outside the caller's process."""
    return node.place != HERE and node.transport != INPROC


def is_on_network(node: NodeSpec) -> bool:
    """Whether it runs on another machine."""
    return is_elsewhere(node) and find_launcher(node.place).on_network


def network(plan: Plan) -> str | None:
    """The transport between the run's processes; None if there is only one process."""
    return next((node.transport for node in plan.nodes if is_elsewhere(node)), None)


def place(topology: Topology, launchers: Launchers) -> tuple[dict[str, str], tuple[NodeSpec, ...]]:
    """Each actor member's node, and the nodes.

    A repeated group's instances are distributed over a counted node's members in turn or, if there are more
    nodes than instances, have several each, one more or less; an actor's members are distributed over these
    in turn.
    """
    tables = {MAIN: NodeTable(), **topology.nodes}
    node_of = {}
    for name, actor in topology.actors.items():
        nodes = numbered(actor.node, tables[actor.node].count)
        instances = instances_of(name, topology)
        for member in members_of(name, topology):
            its = _nodes_of(member.instance, instances, nodes)
            node_of[member.name] = its[member.index % actor.count % len(its)]
    problems = Problems()  # none: the options have been checked
    options = {name: read_options(topology, name, launcher, problems) for name, launcher in launchers.items()}
    specs = tuple(
        NodeSpec(
            name=node,
            place=table.place,
            transport=table.transport,
            actors=tuple(member for member, its_node in node_of.items() if its_node == node),
            options=options.get(name),
        )
        for name, table in tables.items()
        for node in numbered(name, table.count)
    )
    return node_of, specs


def _nodes_of(instance: int, instances: int, nodes: Sequence[str]) -> Sequence[str]:
    """The nodes that an instance of a group runs on."""
    if len(nodes) <= instances:
        return (nodes[instance % len(nodes)],)
    return nodes[instance * len(nodes) // instances : (instance + 1) * len(nodes) // instances]
