"""Where actors run."""

from __future__ import annotations

from importlib.metadata import entry_points

from .faults import Faults
from .plan import NodeSpec, Plan, members
from .schema import INPROC, MAIN, NodeTable, Topology
from .suggest import quoted, suggestion

ENTRY_POINTS = "actorq.transports"


def installed_transports() -> list[str]:
    """The names of the transports that installed packages offer."""
    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def check_nodes(topology: Topology, known: list[str], faults: Faults) -> None:
    """`known`: the declared nodes, wrong ones too."""
    transports = installed_transports()
    for name, node in topology.nodes.items():
        if node.transport not in transports:
            problem = f'transport "{node.transport}" is not installed'
            hint = f"installed: {quoted(transports)}; --transport {INPROC} puts all nodes on {INPROC}"
            faults.add(f"nodes.{name}.transport", problem, hint)
    _check_main(topology, faults)
    for name, actor in topology.actors.items():
        if actor.node not in known and actor.node != MAIN:
            hint = suggestion(actor.node, dict.fromkeys([MAIN, *known]), "nodes")
            faults.add(f"actors.{name}.node", f'unknown node "{actor.node}"', hint)
    processes = 1 + sum(node.count for name, node in topology.nodes.items() if is_elsewhere(node))
    if topology.deterministic and processes > 1:
        problem = f"true, but the nodes take {processes} processes; a deterministic run has one"
        faults.add("deterministic", problem, f"--transport {INPROC} puts all nodes on {INPROC}")


def _check_main(topology: Topology, faults: Faults) -> None:
    main = topology.nodes.get(MAIN, NodeTable())
    if main.place != "here":
        faults.add(
            "nodes.main.place", f'"{main.place}", but main is always the caller\'s process', 'use "here"'
        )
    if main.count != 1:
        faults.add("nodes.main.count", f"{main.count}, but main is one process, the caller's")


def is_elsewhere(node: NodeTable | NodeSpec) -> bool:
    """Whether it runs outside the caller's process."""
    return node.place != "here" and node.transport != INPROC


def network(plan: Plan) -> str | None:
    """The transport between the run's processes; None if there is only one process."""
    return next((node.transport for node in plan.nodes if is_elsewhere(node)), None)


def place(topology: Topology) -> tuple[dict[str, str], tuple[NodeSpec, ...]]:
    """Each actor member's node, and the nodes. Members go over a counted node's members in turn."""
    tables = {MAIN: NodeTable(), **topology.nodes}
    node_of = {}
    for name, actor in topology.actors.items():
        nodes = members(actor.node, tables[actor.node].count)
        for index, member in enumerate(members(name, actor.count)):
            node_of[member] = nodes[index % len(nodes)]
    specs = tuple(
        NodeSpec(
            name=node,
            place=table.place,
            transport=table.transport,
            actors=tuple(member for member, its_node in node_of.items() if its_node == node),
        )
        for name, table in tables.items()
        for node in members(name, table.count)
    )
    return node_of, specs
