"""Setting all shards of a parameter server to one version, after a start or a death."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from actorq.actors import ActorDied, Group, Refused
from actorq.dqn.sharding import shard_slices

from .messages import Version
from .server_messages import Restore, Stand, Standing

RESTORING = "the parameter server is being restored; pull again"
"""Why a shard refuses whatever comes between its start, or the front's question, and the answer to it."""

log = logging.getLogger("actorq.roles")


async def restore(
    servers: Group[Stand | Restore],
    begin: Callable[[], NDArray[Any]],
    *,
    reached: int,
    compensating: bool,
) -> Version:
    """Have all shards go on from the newest version they have in common, under a new incarnation; returns it.

    Where no shard has any, they begin with the vector that `begin` makes. A shard that dies meanwhile is
    asked again in its next life. `reached`: the version known to have been applied. Raises RuntimeError if
    shards have versions, but none in common.
    """
    while True:
        try:
            standings = await servers.all().ask(Stand())
            version = await _set_back(servers, standings, begin, compensating)
        except (ActorDied, Refused):  # one died, perhaps between the two questions, and has less by now
            continue
        lost = max(reached, *(max(standing.updates, default=0) for standing in standings)) - version.updates
        if lost:
            log.warning(
                "the parameter server goes on from version %d: %d updates are lost", version.updates, lost
            )
        return version


async def _set_back(
    servers: Group[Stand | Restore],
    standings: Sequence[Standing],
    begin: Callable[[], NDArray[Any]],
    compensating: bool,
) -> Version:
    updates = newest_common(standings)
    incarnation = 1 + max(standing.incarnation for standing in standings)
    vector = begin()
    slices = shard_slices(vector.size, len(servers))
    for server, part in zip(servers, slices, strict=True):
        initial = vector[part].copy() if updates is None else None
        await server.ask(Restore(incarnation, updates or 0, vector.size, compensating, initial))
    return Version(incarnation, updates or 0)


def newest_common(standings: Sequence[Standing]) -> int | None:
    """None if no shard has a version to go back to. Raises RuntimeError if some do, but none in common."""
    common = set(standings[0].updates).intersection(*(standing.updates for standing in standings[1:]))
    if common:
        return max(common)
    if any(standing.updates for standing in standings):
        had = "; ".join(f"{list(standing.updates)}" for standing in standings)
        raise RuntimeError(f"the parameter server's shards have no version in common: {had}")
    return None
