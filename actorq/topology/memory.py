"""How much memory a topology will need, as its roles tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .check.members import members_of
from .plan import Plan


@dataclass(frozen=True, slots=True)
class Need:
    """What the members of one declared actor will hold, in all instances of its group."""

    actor: str
    """As the file names it."""
    count: int
    what: str
    bytes: int
    """Of each member."""


def memory_needs(plan: Plan) -> Iterator[Need]:
    """What is told of each actor, in file order; actors that tell nothing are left out."""
    specs = {spec.name: spec for spec in plan.specs}
    for name in plan.topology.actors:
        members = members_of(name, plan.topology)
        first = specs[members[0].name]
        for what, size in first.cls.memory(first, specs):
            yield Need(name, len(members), what, size)
