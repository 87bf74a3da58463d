"""Checks of groups, whose actors are supervised together."""

from __future__ import annotations

from actorq.actors.spec import GroupSpec, RestartLimits
from actorq.topology.schema import MOST_MEMBERS, GroupTable, Topology
from actorq.topology.suggest import suggestion

from .convert import UNUSABLE
from .members import numbered
from .problems import Problems


def check_groups(topology: Topology, known: list[str], problems: Problems) -> None:
    """`known`: the declared actors, including wrong ones."""
    group_of: dict[str, str] = {}
    for name, group in topology.groups.items():
        where = f"groups.{name}"
        for actor in () if group.actors is UNUSABLE else group.actors:
            if known and actor not in known:
                problems.add(
                    f"{where}.actors", f'unknown actor "{actor}"', suggestion(actor, known, "actors")
                )
            elif group_of.get(actor) == name:
                problems.add(f"{where}.actors", f'"{actor}" is there twice')
            elif actor in group_of:
                problems.add(f"{where}.actors", f'"{actor}" is in the group "{group_of[actor]}" already')
            group_of.setdefault(actor, name)
        _check_size(where, group, topology, problems)
        if group.backoff_seconds > group.backoff_max_seconds:
            problem = f"{group.backoff_seconds} is above backoff_max_seconds, {group.backoff_max_seconds}"
            problems.add(f"{where}.backoff_seconds", problem)


def _check_size(where: str, group: GroupTable, topology: Topology, problems: Problems) -> None:
    for name in () if group.actors is UNUSABLE else group.actors:
        actor = topology.actors.get(name)
        if actor is not None and group.count * actor.count > MOST_MEMBERS:
            problem = (
                f'{group.count:,} times {actor.count:,} members of "{name}" are {group.count * actor.count:,}'
            )
            problems.add(f"{where}.count", problem, f"at most {MOST_MEMBERS:,} in all")


def group_specs(topology: Topology) -> tuple[GroupSpec, ...]:
    """One spec for each instance of each group."""
    return tuple(
        GroupSpec(
            name=instance,
            strategy=group.strategy,
            limits=RestartLimits(
                max_restarts=group.max_restarts,
                within_seconds=group.within_seconds,
                backoff_seconds=group.backoff_seconds,
                backoff_max_seconds=group.backoff_max_seconds,
            ),
        )
        for name, group in topology.groups.items()
        for instance in numbered(name, group.count)
    )
