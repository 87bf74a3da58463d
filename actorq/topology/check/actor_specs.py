"""Actor specs of a topology: the checked settings of each actor, and the specs of its members."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actorq.actors.actor import Actor
from actorq.actors.spec import ActorSpec, MailboxBounds, derive_seed
from actorq.topology.schema import SnapshotTable, Topology

from .convert import convert
from .members import instances_of, members_of
from .ports import wiring
from .problems import Problems
from .tables import add_reported, tables_of


@dataclass(frozen=True, slots=True)
class Given:
    """An actor's settings: its config and the tables it reads."""

    config: Any
    tables: Mapping[str, Any]


def settle(
    name: str, cls: type[Actor], topology: Topology, tables: Mapping[str, Any], problems: Problems
) -> Given:
    """Convert and check one actor's settings; if they are valid the role checks them further.

    Tables that have problems already are not passed to the role.
    """
    where = f"actors.{name}"
    before = len(problems)
    actor = topology.actors[name]
    config = convert(actor.config, cls.Config, f"{where}.config", problems)
    own_tables = tables_of(cls, topology, tables, problems)
    if topology.deterministic and len(problems) == before and (why := cls.real_time(config)):
        problems.add("deterministic", f"true, but {name} can't take part: {why}")
    if actor.snapshot_every is not None:
        _check_snapshots(f"{where}.snapshot_every", actor.snapshot_every, problems)
    if len(problems) == before:
        right = {table: value for table, value in own_tables.items() if not problems.touch(table)}

        def place(key: str) -> str:
            return key if re.split(r"[.[]", key, maxsplit=1)[0] in own_tables else f"{where}.{key}"

        def tell() -> Iterable[tuple[str, str]]:
            return cls.problems(config, right)

        add_reported(tell, place, where, problems, whole=len(right) == len(own_tables))
    return Given(config, own_tables)


def _check_snapshots(where: str, every: SnapshotTable, problems: Problems) -> None:
    if (every.seconds is None) == (every.updates is None) and not problems.touch(where):
        found = "neither seconds nor updates" if every.seconds is None else "both seconds and updates"
        problems.add(where, f"found {found}", "give one of them")


def actor_specs(
    name: str, cls: type[Actor], topology: Topology, given: Given, node_of: Mapping[str, str]
) -> list[ActorSpec]:
    """The specs of one actor's members. `node_of`: each member's node."""
    actor = topology.actors[name]
    every = actor.snapshot_every or SnapshotTable()
    instances = instances_of(name, topology)
    ports = [wiring(topology, name, instance) for instance in range(instances)]
    return [
        ActorSpec(
            name=member.name,
            cls=cls,
            node=node_of[member.name],
            index=member.index,
            count=instances * actor.count,
            instances=instances,
            config=given.config,
            tables=given.tables,
            ports=ports[member.instance],
            seed=derive_seed(topology.seed, member.name),
            run_name=topology.name,
            mailbox=MailboxBounds(actor.mailbox.messages, actor.mailbox.bytes),
            restart=actor.restart,
            group=member.group,
            snapshot_every_seconds=every.seconds,
            snapshot_every_updates=every.updates,
        )
        for member in members_of(name, topology)
    ]
