"""A topology as a Mermaid flowchart, which GitHub and many editors draw."""

from __future__ import annotations

from actorq.topology.plan import Plan
from actorq.topology.schema import Topology

from .terminal import clusters, messages_of, role_of, tables_of_nodes, times, wired_ports


def to_mermaid(plan: Plan) -> str:
    """A flowchart: a frame for each node and, inside, for each repeated group; solid arrows for refs and
    groups, dotted ones for feeds.
    """
    topology = plan.topology
    lines = ["flowchart LR"]
    for index, (node, table) in enumerate(tables_of_nodes(topology).items()):
        lines.append(f'  subgraph node{index}["{times(node, table.count)}"]')
        for part, (title, names) in enumerate(clusters(topology, node)):
            if title:
                boxes = (f"  {_box(name, topology)}" for name in names)
                lines += [f'    subgraph node{index}part{part}["{title}"]', *boxes, "    end"]
            else:
                lines += (_box(name, topology) for name in names)
        lines.append("  end")
    for name in topology.actors:
        for port, targets in wired_ports(plan, name):
            for target in targets:
                label = f'"{messages_of(port)}"'
                if port.kind == "feed":
                    lines.append(f"  {_id(target)} -. {label} .-> {_id(name)}")
                else:
                    lines.append(f"  {_id(name)} -- {label} --> {_id(target)}")
    return "\n".join(lines) + "\n"


def _box(name: str, topology: Topology) -> str:
    actor = topology.actors[name]
    return f'    {_id(name)}["{times(name, actor.count)}<br/>{_escaped(role_of(actor))}"]'


def _id(actor: str) -> str:
    """A safe identifier: "end" and others are keywords of Mermaid."""
    return f"actor_{actor}"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")
