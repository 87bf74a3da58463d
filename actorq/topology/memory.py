"""Memory estimate of a topology, from its roles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .check.members import members_of
from .plan import Plan


@dataclass(frozen=True, slots=True)
class Need:
    """Memory that the members of one declared actor will hold, in all instances of its group."""

    actor: str
    """Name of the actor in the file."""
    count: int
    what: str
    bytes: int
    """Bytes for each member."""


def memory_needs(plan: Plan) -> Iterator[Need]:
    """The estimates of each actor, in file order; actors without estimates are left out."""
    specs = {spec.name: spec for spec in plan.specs}
    for name in plan.topology.actors:
        members = members_of(name, plan.topology)
        first = specs[members[0].name]
        for what, size in first.cls.memory(first, specs):
            yield Need(name, len(members), what, size)
