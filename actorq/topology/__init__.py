"""Topology: the declared actors, their nodes and their connections, checked. Starts nothing."""

from .check.check import check, load
from .check.problems import Problem, TopologyError
from .check.roles import Role, list_roles
from .json_schema import json_schema
from .load import Source, recipes
from .memory import Need, memory_needs
from .plan import NodeSpec, Plan
from .render.mermaid import to_mermaid
from .render.terminal import draw
from .render.toml import to_toml
from .schema import (
    ActorTable,
    GroupTable,
    Mailbox,
    NodeTable,
    RunTable,
    SnapshotTable,
    Solved,
    Stop,
    Topology,
)

__all__ = [
    "ActorTable",
    "GroupTable",
    "Mailbox",
    "Need",
    "NodeSpec",
    "NodeTable",
    "Plan",
    "Problem",
    "Role",
    "RunTable",
    "SnapshotTable",
    "Solved",
    "Source",
    "Stop",
    "Topology",
    "TopologyError",
    "check",
    "draw",
    "json_schema",
    "list_roles",
    "load",
    "memory_needs",
    "recipes",
    "to_mermaid",
    "to_toml",
]
