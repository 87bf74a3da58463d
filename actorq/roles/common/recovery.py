"""Recovery of actors that share one parameter vector: selection of a version that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from actorq.actors import Actor, Refused, State
from actorq.roles.replay.messages import Version

BEGINNING = Version(0, 0)
"""Before any update: the same in every incarnation."""


def newest_common(versions: Sequence[Sequence[Version]]) -> Version:
    """The newest version that each of the actors has; `BEGINNING` if one of them has none yet.

    Raises RuntimeError if they have none in common.
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


class Restorable(Protocol):
    """A slice of the parameters, with all that its updates depend on."""

    @property
    def updates(self) -> int: ...

    def state(self) -> State: ...


class RecoveryPoints:
    """Recovery points: states of an actor's slice that it can be restored to.

    Every `within_updates` / 2 updates a point is made and a snapshot kept. The points of the last
    `within_updates` / 2 updates are kept, so that the actors have one in common.
    """

    def __init__(self, actor: Actor, within_updates: int, counter: str) -> None:
        """`counter`: the name of the progress that an actor reports with each point, by its updates."""
        self._actor, self._every, self._counter = actor, within_updates // 2, counter
        self.incarnation = 0
        """The incarnation under which updates are made or, after a restart, were last made."""
        self._slice: Restorable | None = None
        self._points: list[State] = []
        """Oldest first."""

    @property
    def is_empty(self) -> bool:
        return not self._points

    @property
    def versions(self) -> tuple[Version, ...]:
        """Versions of the points and of the current slice, oldest first."""
        return tuple(Version(point["incarnation"], point["updates"]) for point in self._with_newest())

    def _with_newest(self) -> list[State]:
        if self._slice is None or self._points[-1]["updates"] == self._slice.updates:
            return self._points
        return [*self._points, point_of(self._slice, self.incarnation)]

    def up_to(self, origin: Version) -> list[State]:
        """The points up to this version, the last of which is this version. Raises Refused if there is none.

        Earlier ones are kept: another actor that dies now may have no newer one.
        """
        versions = self.versions
        if origin not in versions:
            raise Refused(f"{self._actor.name} can't be restored to version {origin.updates}")
        return self._with_newest()[: versions.index(origin) + 1]

    def restart(self, slice: Restorable, incarnation: int, points: list[State]) -> None:
        """Continue with a slice that has been restored to the last of these points."""
        self._slice, self.incarnation, self._points = slice, incarnation, points
        self._actor.keep_snapshot()

    def note_update(self) -> None:
        """Make a point if one is due after this update."""
        assert self._slice is not None
        if self._slice.updates % self._every == 0:
            oldest = self._slice.updates - self._every
            self._points = [point for point in self._points if point["updates"] >= oldest]
            self._points.append(point_of(self._slice, self.incarnation))
            self._actor.keep_snapshot()
            self._actor.progress(self._counter, self._every)

    def state(self) -> State:
        return {"incarnation": self.incarnation, "points": self._with_newest()}

    def load_state(self, state: State) -> None:
        self.incarnation, self._points = state["incarnation"], state["points"]


def point_of(slice: Restorable, incarnation: int) -> State:
    """A slice's state as a recovery point; `incarnation` made its version."""
    return {**slice.state(), "incarnation": incarnation}
