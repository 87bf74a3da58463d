"""Waits that close a circle are found when the last of them begins, and named.

A request carries the chain of waiting handlers that led to it. Where it arrives at a handler that is itself
waiting, the chain is passed on along that wait (edge chasing: Chandy, Misra, Haas 1983); if it comes back to
a handler that is in it, nobody in the circle could ever go on.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from .letter import Letter
from .message import Message
from .transport import CircleFound

if TYPE_CHECKING:
    from .lane import Lane
    from .link import Link

ON_START = ".on_start"


class Handling:
    """What one handler is at: its lane, the letter at hand, and the waits it is in."""

    __slots__ = ("lane", "letter", "starting", "waits")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.letter: Letter | None = None
        self.starting = False
        self.waits: list[tuple[Link, type[Message]]] = []

    def chain(self) -> tuple[str, ...]:
        """The chain that a request sent from here carries."""
        me = self.lane.key + ON_START if self.starting else self.lane.key
        return (*self.letter.chain, me) if self.letter is not None else (me,)


current_handling: ContextVar[Handling | None] = ContextVar("current_handling", default=None)
"""Set while a handler or `on_start` runs; unset in `run`, which keeps no message waiting."""


def inspect(lane: Lane, chain: tuple[str, ...], found: CircleFound) -> None:
    """A wait with this chain has arrived at `lane`: call `found` if it can never end."""
    here = chain.count(lane.key) + chain.count(lane.key + ON_START)
    if here >= lane.capacity or (not lane.has_started and chain[-1].endswith(ON_START)):
        found((*chain, lane.key))
    elif lane.handling is not None:  # only a lane that handles one at a time is blocked by one wait
        for link, message in tuple(lane.handling.waits):
            link.inbox.probe(link.target, message, (*chain, lane.key), found)


def describe(chain: tuple[str, ...]) -> str:
    """The circle as a sentence."""
    first, last = chain[0], chain[-1]
    if first.endswith(ON_START) and len(chain) == 2 and first != last + ON_START:
        asker = first.removesuffix(ON_START)
        return (
            f"{asker} waits for {last} in on_start, but {last} starts later: "
            f"put it before {asker} in the file, or wait in run"
        )
    return "these actors wait for each other in a circle: " + " -> ".join(chain)
