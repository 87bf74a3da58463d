"""Plan: a checked topology, ready to be started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actorq.actors.spec import ActorSpec, GroupSpec

from .schema import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One node. Over the transport inproc it is in the caller's process, whatever its place."""

    name: str
    """`main`; `explorers`, or `explorers.0`, `explorers.1`, … for a declared count."""
    place: str
    """`here`, or the name of its launcher."""
    transport: str
    actors: tuple[str, ...]
    """The members that run on it, in file order."""
    options: Any = None
    """The launcher's `Options` for it; None where it needs no launcher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked topology."""

    topology: Topology
    """As declared, overrides applied."""
    specs: tuple[ActorSpec, ...]
    """Every actor in file order, counted ones member by member."""
    groups: tuple[GroupSpec, ...]
    nodes: tuple[NodeSpec, ...]
    """`main` first."""
    tables: Mapping[str, Any]
    """The tables that roles declare, each as the struct it was declared with."""
