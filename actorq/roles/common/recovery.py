"""Restoring actors that share one parameter vector to a version that all of them have."""

from __future__ import annotations

from collections.abc import Sequence

from actorq.roles.replay.messages import Version

BEGINNING = Version(0, 0)
"""Before any update: the same in every incarnation."""


def newest_common(versions: Sequence[Sequence[Version]]) -> Version:
    """The newest version that each of the actors has; `BEGINNING` if one of them has none yet.

    Raises RuntimeError if there is none in common.
    """
    known = [set(each) or {BEGINNING} for each in versions]
    common = known[0].intersection(*known[1:])
    if not common:
        had = "; ".join(
            ", ".join(f"{version.updates} of incarnation {version.incarnation}" for version in each) or "none"
            for each in versions
        )
        raise RuntimeError(f"the parameter server's shards have no version in common: {had}")
    return max(common, key=lambda version: version.updates)
