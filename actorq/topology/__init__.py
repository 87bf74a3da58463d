"""The declared topology: who takes part, where each runs, and who talks to whom. Starts nothing."""

from .check import check, load
from .document import Source, recipes
from .faults import Fault, TopologyError
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

__all__ = [
    "ActorTable",
    "Fault",
    "GroupTable",
    "Mailbox",
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
    "list_roles",
    "load",
    "recipes",
]
