"""Waits that close a circle are found when the last of them begins, and named.

A request carries the chain of waiting handlers that led to it. Where it arrives at a handler that is itself
waiting, the chain is passed on along that wait (edge chasing: Chandy, Misra, Haas 1983); if it comes back to
a handler that is in it, nobody in the circle could ever go on.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actorq.actors.message import Message
from actorq.actors.wire.transport import CircleFound

from .envelope import Letter

if TYPE_CHECKING:
    from .channel import Link
    from .mailbox import Lane

ON_START = ".on_start"


class Handling:
    """What one handler is at: its lane, the letter at hand, and the waits it is in."""

    __slots__ = ("lane", "letter", "starting", "waits")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.letter: Letter | None = None
        self.starting = False
        self.waits: list[tuple[Link, type[Message]]] = []

    @property
    def key(self) -> str:
        return self.lane.key + ON_START if self.starting else self.lane.key

    def chain(self) -> tuple[str, ...]:
        """The chain that a request sent from here carries: asked again, it leaves out who gave up."""
        return (*self.letter.chain, self.key) if self.letter is not None else (self.key,)


@dataclass(slots=True)
class StartOrder:
    """Actors that start one after the other: those behind wait for the one that is starting."""

    members: tuple[str, ...] = ()
    starting: Handling | None = None
    """None while it is one in another process."""

    def starts_in(self, chain: tuple[str, ...]) -> bool:
        """Whether one of them is in the chain, waiting in its on_start."""
        return any(name + ON_START in chain for name in self.members)


current_handling: ContextVar[Handling | None] = ContextVar("current_handling", default=None)
"""Set while a handler or `on_start` runs; unset in `run`, which keeps no message waiting."""


def inspect(lane: Lane, chain: tuple[str, ...], found: CircleFound) -> None:
    """A wait with this chain has arrived at `lane`: call `found` if it can never end."""
    path = (*chain, lane.key)
    if lane.start_order is not None:
        starting = lane.start_order.starting
        if lane.start_order.starts_in(chain):
            found(path)
        elif starting is not None:
            _follow(starting, (*path, starting.key), found)
    elif _taken(lane, chain) >= lane.capacity:
        found(path)
    elif lane.handling is not None:  # only a lane that handles one at a time is blocked by one wait
        _follow(lane.handling, path, found)


def _taken(lane: Lane, chain: tuple[str, ...]) -> int:
    """How many of the lane's handlers are in the chain."""
    if lane.handling is not None and not lane.handling.waits and chain[-1] != lane.handling.key:
        return 0  # the chain comes from another process, and meanwhile the handler has given up
    return chain.count(lane.key) + chain.count(lane.key + ON_START)


def _follow(handling: Handling, path: tuple[str, ...], found: CircleFound) -> None:
    for link, message in tuple(handling.waits):
        link.inbox.probe(link.target, message, path, found)


def describe(chain: tuple[str, ...]) -> str:
    """The circle as a sentence."""
    last = chain[-1]
    before = [key.removesuffix(ON_START) for key in chain[:-1]]
    starting = [key for key in chain[:-1] if key.endswith(ON_START)]
    if starting and not any(last == key or last.startswith(key + ".") for key in before):
        asker = starting[-1].removesuffix(ON_START)
        return (
            f"{asker} waits for {last} in on_start, but {last} starts later: "
            f"put it before {asker} in the file, or wait in run (the wait: {' -> '.join(chain)})"
        )
    return "these actors wait for each other in a circle: " + " -> ".join(chain)
