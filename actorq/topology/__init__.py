"""The declared topology: who takes part, where each runs, and who talks to whom. Starts nothing."""

from .checking import check, load
from .document import Source, recipes
from .drawing import draw
from .editors import json_schema
from .faults import Fault, TopologyError
from .memory import Need, memory_needs
from .mermaid import to_mermaid
from .plan import NodeSpec, Plan
from .roles import Role, list_roles
from .schema import (
    ActorTable,
    GroupTable,
    Mailbox,
    NodeTable,
    Run,
    Snapshot,
    Solved,
    Stop,
    Topology,
)
from .write import to_toml

__all__ = [
    "ActorTable",
    "Fault",
    "GroupTable",
    "Mailbox",
    "Need",
    "NodeSpec",
    "NodeTable",
    "Plan",
    "Role",
    "Run",
    "Snapshot",
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
