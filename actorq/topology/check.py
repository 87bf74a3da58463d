"""Checking a topology: everything that is wrong, told at once, before anything starts."""

from __future__ import annotations

from collections.abc import Sequence

from .document import Source, read
from .plan import Plan
from .schema import Topology


def check(source: Source, overrides: Sequence[str] = (), *, transport: str | None = None) -> Plan:
    """What the topology means, ready to be started.

    `source` is a .toml file's path, a shipped recipe's name, the same content as a dict, or a Topology;
    `overrides` are texts such as "agent.n_step=5"; `transport` puts all nodes on one transport. The file's
    own folder goes to the front of Python's import path, so that a module beside the file can be a role.

    Raises TopologyError with all faults.
    """
    document = read(source, overrides, transport)
    raise NotImplementedError(document)


def load(source: Source, overrides: Sequence[str] = (), *, transport: str | None = None) -> Topology:
    """The topology as declared, with overrides applied; takes and raises what `check` does."""
    return check(source, overrides, transport=transport).topology
