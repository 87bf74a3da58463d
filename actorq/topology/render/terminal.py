"""Drawing of a topology for a terminal: its actors, their nodes and their connections."""

from __future__ import annotations

from collections.abc import Iterator

from actorq.actors.actor import Actor
from actorq.actors.definition import Port
from actorq.actors.spec import MAIN
from actorq.topology.check.members import count_seen_from, declared_name, group_of
from actorq.topology.check.nodes import is_elsewhere
from actorq.topology.plan import Plan
from actorq.topology.schema import ActorTable, NodeTable, Stop, Topology

_WIDTH = 78
Row = tuple[str, str, str, str]
_SENDS, _RECEIVES = "──▶", "◀──"


def draw(plan: Plan) -> str:
    """The drawing: a box for each node, with the actors and their ports.

    `──▶` tells and asks, `◀──` receives published messages. A repeated group has a box of its own; the count
    at the other end of an arrow is that for each single actor.
    """
    topology = plan.topology
    title = [topology.name, f"seed {topology.seed}", topology.backend]
    if topology.deterministic:
        title.append("deterministic")
    lines = ["  ·  ".join(title), f"stops {stop_in_words(topology.stop)}", ""]
    rows = {name: _rows(name, plan) for name in topology.actors}
    widths = [
        max((len(row[column]) for some in rows.values() for row in some), default=0) for column in range(3)
    ]
    for node, table in tables_of_nodes(topology).items():
        body = []
        for group_title, names in clusters(topology, node):
            block = [line for name in names for line in _actor(name, topology, rows[name], widths)]
            body += [*_box(group_title, block, _WIDTH - 4), ""] if group_title else block
        lines += _box(_node_title(node, table), body or ["no actors"], _WIDTH)
    for name, group in topology.groups.items():
        members = ", ".join(group.actors)
        lines.append(f"group {times(name, group.count)} ({group.strategy}): {members}")
    return "\n".join(lines).rstrip() + "\n"


def tables_of_nodes(topology: Topology) -> dict[str, NodeTable]:
    """The declared nodes and main, which comes first; main is left out if nothing runs on it."""
    main = {MAIN: NodeTable()} if actors_on(topology, MAIN) or MAIN in topology.nodes else {}
    return {**main, **topology.nodes}


def actors_on(topology: Topology, node: str) -> list[str]:
    return [name for name, actor in topology.actors.items() if actor.node == node]


def clusters(topology: Topology, node: str) -> list[tuple[str, list[str]]]:
    """The actors on a node: those of a repeated group together under its title, others alone under ""."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in actors_on(topology, node):
        group, table = group_of(name, topology)
        key = (times(group, table.count), "") if table.count > 1 else ("", name)
        found.setdefault(key, []).append(name)
    return [(title, names) for (title, _), names in found.items()]


def role_of(actor: ActorTable) -> str:
    return actor.role if isinstance(actor.role, str) else actor.role.__qualname__


def times(name: str, count: int) -> str:
    return name if count == 1 else f"{name} × {count}"


def messages_of(port: Port) -> str:
    return ", ".join(message.__name__ for message in port.messages)


def wired_ports(plan: Plan, name: str) -> Iterator[tuple[Port, tuple[str, ...]]]:
    """An actor's wired ports, each with the names of the actors at its other end."""
    classes = classes_of(plan)
    for port_name, wired in plan.topology.actors[name].ports.items():
        yield classes[name].definition.ports[port_name], (wired,) if isinstance(wired, str) else wired


def classes_of(plan: Plan) -> dict[str, type[Actor]]:
    """Each declared actor's class."""
    return {declared_name(spec.name): spec.cls for spec in plan.specs}


def stop_in_words(stop: Stop) -> str:
    """The stop conditions as text, such as "when solved (mean return 475.0 over 20 episodes), or at 200,000
    env_steps".
    """
    ends = []
    if stop.solved is not None:
        ends.append(f"when solved ({stop.solved.in_words()})")
    for what in ("env_steps", "updates", "episodes", "wall_seconds"):
        limit = getattr(stop, what)
        if limit is not None:
            ends.append(f"at {limit:,} {what}")
    return ", or ".join(ends) or "on request"


def _node_title(name: str, node: NodeTable) -> str:
    place = "the caller's process" if not is_elsewhere(node) else node.place
    return f"{times(name, node.count)}  ({place}, {node.transport})"


def _actor(name: str, topology: Topology, rows: list[Row], widths: list[int]) -> list[str]:
    actor = topology.actors[name]
    lines = [f"{times(name, actor.count)}  ·  {role_of(actor)}"]
    for *cells, messages in rows:
        aligned = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("   " + "  ".join([*aligned, messages]))
    return [*lines, ""]


def _rows(name: str, plan: Plan) -> list[Row]:
    """An actor's ports: name, arrow, the actors at the other end, the message types."""
    rows = [_port_row(name, port, targets, plan.topology) for port, targets in wired_ports(plan, name)]
    for port in classes_of(plan)[name].definition.ports.values():
        if port.kind == "topic":
            subscribers = ", ".join(_subscribers(name, port, plan)) or "none"
            rows.append((port.name, _SENDS, subscribers, messages_of(port)))
    return rows


def _port_row(name: str, port: Port, targets: tuple[str, ...], topology: Topology) -> Row:
    arrow = _RECEIVES if port.kind == "feed" else _SENDS
    others = ", ".join(times(target, count_seen_from(name, target, topology)) for target in targets)
    return port.name, arrow, others, messages_of(port)


def _subscribers(publisher: str, topic: Port, plan: Plan) -> list[str]:
    return [
        times(name, count_seen_from(publisher, name, plan.topology))
        for name in plan.topology.actors
        for port, targets in wired_ports(plan, name)
        if port.kind == "feed" and publisher in targets and set(port.messages) & set(topic.messages)
    ]


def _box(title: str, body: list[str], least_width: int) -> list[str]:
    while body and not body[-1]:
        body = body[:-1]
    width = max(least_width - 4, len(title) + 2, *map(len, body))
    top = f"┌ {title} " + "─" * (width - len(title)) + "┐"
    return [top, *(f"│ {line.ljust(width)} │" for line in body), f"└{'─' * (width + 2)}┘"]
