"""Death watch (Erlang's monitor, Akka's DeathWatch): which actors are notified of an incarnation's end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from actorq.actors.actor import Actor
from actorq.actors.message import Message
from actorq.actors.spec import ActorSpec


class ActorDown(Message, frozen=True):
    """Notification of a watcher: this incarnation of the actor, and any earlier one, has ended.

    It is sent on the route of the ended incarnation's own messages, so it arrives after all of them. If the
    node was lost, the watcher's node makes it instead.
    """

    name: str
    incarnation: int
    """The number of restarts before it."""


def watches(cls: type[Actor]) -> bool:
    """Whether actors of the class can watch others: it overrides `on_down`."""
    return cls.on_down is not Actor.on_down


def watch_pairs(
    neighbors: Iterable[tuple[str, str]], specs: Mapping[str, ActorSpec]
) -> Iterator[tuple[str, str]]:
    """All (watched actor, possible watcher), given the pairs of actors that a port connects, either way."""
    pairs = {pair: None for one, other in neighbors for pair in ((one, other), (other, one))}
    return (pair for pair in pairs if watches(specs[pair[1]].cls))
