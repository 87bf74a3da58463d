"""Recovery of a parameter server: all shards are restored to one version, after a start or a death."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from actorq.actors import Group
from actorq.learning.distributed.sharding import shard_slices
from actorq.roles.common.recovery import BEGINNING, newest_common
from actorq.roles.replay.messages import Version

from .messages import ListVersions, Restore

RESTORING = "the parameter server is being restored; pull again"
"""Reason of a shard's refusals from its start, or a `ListVersions`, until the next `Restore`."""

log = logging.getLogger("actorq.roles")


async def restore(
    servers: Group[ListVersions | Restore],
    begin: Callable[[], NDArray[Any]],
    last: Version,
    skipping: int,
    compensating: bool,
) -> Version:
    """Restore all shards to the newest version they have in common, under a new incarnation; returns it.

    If a shard has none, that is the vector made by `begin`. The new incarnation is larger than those that the
    shards know and that of `last`, the last version known here, by `skipping` more than 1.

    Raises ActorDied or Refused if a shard dies meanwhile: try again; and RuntimeError if shards have
    versions, but none in common.
    """
    shards = await servers.all().ask(ListVersions())
    origin = newest_common([shard.versions for shard in shards])
    incarnation = 1 + skipping + max(last.incarnation, *(shard.incarnation for shard in shards))
    vector = begin()
    slices = shard_slices(vector.size, len(servers))
    for server, part in zip(servers, slices, strict=True):
        initial = vector[part].copy() if origin == BEGINNING else None
        await server.ask(Restore(incarnation, origin, vector.size, compensating, initial))
    known = [version.updates for shard in shards for version in shard.versions]
    if lost := max(last.updates, *known, 0) - origin.updates:
        log.warning(
            "the parameter server continues from version %d: %d updates are lost", origin.updates, lost
        )
    return Version(incarnation, origin.updates)
