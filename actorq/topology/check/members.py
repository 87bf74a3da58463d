"""Names of the members of counted actors, nodes and groups, and the instances they belong to.

The members of a counted `explorer` are `explorer.0`, `explorer.1`, …; in the second instance of a repeated
group `edge` they are `edge.1.explorer.0`, …. Declared names contain no dots.
"""

from __future__ import annotations

from dataclasses import dataclass

from actorq.topology.schema import GroupTable, Topology

from .convert import UNUSABLE


@dataclass(frozen=True, slots=True)
class Member:
    """One actor of the running system."""

    name: str
    index: int
    """Index among all members of its actor, those of the first instance first."""
    instance: int
    """Instance of its group, from 0; also 0 if no group is repeated."""
    group: str
    """The group it is supervised with: `edge.1`; "" if none."""


def numbered(name: str, count: int) -> tuple[str, ...]:
    """The names of all members of something declared with this count."""
    return tuple(_number(name, index, count) for index in range(count))


def _number(name: str, index: int, count: int) -> str:
    return name if count == 1 else f"{name}.{index}"


def group_of(actor: str, topology: Topology) -> tuple[str, GroupTable]:
    """Name and table of the group an actor is declared in; ("", its own name) if in none."""
    for name, group in topology.groups.items():
        if group.actors is not UNUSABLE and actor in group.actors:
            return name, group
    return "", GroupTable(actors=(actor,))


def instances_of(actor: str, topology: Topology) -> int:
    """Number of instances of an actor because its group is repeated."""
    return group_of(actor, topology)[1].count


def together(actor: str, other: str, topology: Topology) -> bool:
    """Whether two actors are in the same group, so that each is wired within its own instance."""
    mine, its = group_of(actor, topology)[0], group_of(other, topology)[0]
    return mine == its != ""


def members_of(actor: str, topology: Topology) -> tuple[Member, ...]:
    """All members, those of the first instance of its group first."""
    instances = range(instances_of(actor, topology))
    return tuple(member for instance in instances for member in members_in(instance, actor, topology))


def members_in(instance: int, actor: str, topology: Topology) -> tuple[Member, ...]:
    """The members in one instance of its group."""
    count = topology.actors[actor].count
    name, table = group_of(actor, topology)
    group = _number(name, instance, table.count)
    names = numbered(f"{group}.{actor}" if table.count > 1 else actor, count)
    return tuple(
        Member(member, instance * count + index, instance, group) for index, member in enumerate(names)
    )


def seen_from(actor: str, instance: int, target: str, topology: Topology) -> tuple[str, ...]:
    """The members that the name `target` refers to, for `actor` in this instance of its group.

    Within a group, those of the same instance; otherwise all.
    """
    own_only = together(actor, target, topology)
    members = members_in(instance, target, topology) if own_only else members_of(target, topology)
    return tuple(member.name for member in members)


def count_seen_from(actor: str, target: str, topology: Topology) -> int:
    """The number of these members."""
    own_only = together(actor, target, topology)
    return topology.actors[target].count * (1 if own_only else instances_of(target, topology))


def called(name: str, topology: Topology) -> tuple[str, ...]:
    """An actor's members, or those in one instance (`edge.1.explorer`); none if there is no such actor."""
    actor = declared_name(name)
    if actor not in topology.actors:
        return ()
    names = (member.name for member in members_of(actor, topology))
    return tuple(member for member in names if name in (actor, without_index(member)))


def without_index(member: str) -> str:
    """`edge.1.explorer` for `edge.1.explorer.0`: the common name of members that share a count."""
    parts = member.split(".")
    return ".".join(parts[: len(parts) - (len(parts) + 1) % 2])


def declared_name(member: str) -> str:
    """The declared name of a member's actor: `explorer` for `edge.1.explorer.0`."""
    return without_index(member).rpartition(".")[2]
