"""Death watch (Erlang's monitor, Akka's DeathWatch): which actors are notified of an incarnation's end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from actorq.actors.actor import Actor
from actorq.actors.message import Message
from actorq.actors.spec import ActorSpec


class WatchNotice(Message, frozen=True):
    """Notification of a watcher: this incarnation has ended, and any earlier one; or it has started.

    It is sent on the route of the watched actor's own messages: after all those of an ended incarnation. The
    loss of a node is reported by the watcher's own node instead.
    """

    name: str
    incarnation: int
    """The number of restarts before it."""
    up: bool = False


def watches(cls: type[Actor]) -> bool:
    """Whether actors of the class can watch others: it overrides `on_down`."""
    return cls.on_down is not Actor.on_down


def watch_pairs(
    neighbors: Iterable[tuple[str, str]], specs: Mapping[str, ActorSpec]
) -> Iterator[tuple[str, str]]:
    """All (watched actor, possible watcher), given the pairs of actors that a port connects, either way."""
    pairs = {pair: None for one, other in neighbors for pair in ((one, other), (other, one))}
    return (pair for pair in pairs if watches(specs[pair[1]].cls))
