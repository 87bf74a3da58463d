"""Deadlock detection by edge chasing: a circular wait is found when its last wait begins, and its actors are
named.

A request carries the chain of waiting handlers that led to it. Where it reaches a handler that is itself
waiting, a probe follows that wait (Chandy, Misra & Haas 1983). If the probe comes back to a handler of the
chain, no handler of the cycle can ever continue.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from actorq.actors.message import Message

from .envelope import Envelope
from .inbox import CycleFound, Inbox

ON_START = ".on_start"


class HandlerQueue(Protocol):
    """The mailbox queue of a handler."""

    key: str
    capacity: int
    start_order: StartOrder | None
    handling: HandlerContext | None


class WaitTarget(Protocol):
    """The channel on which a handler waits for credit or a reply."""

    target: str
    inbox: Inbox


class HandlerContext:
    """State of one handler for deadlock detection: its mailbox queue, message in progress, and open waits."""

    __slots__ = ("envelope", "mailbox", "starting", "waits")

    def __init__(self, mailbox: HandlerQueue) -> None:
        self.mailbox = mailbox
        self.envelope: Envelope | None = None
        self.starting = False
        self.waits: list[tuple[WaitTarget, type[Message]]] = []

    @property
    def key(self) -> str:
        return self.mailbox.key + ON_START if self.starting else self.mailbox.key

    def chain(self) -> tuple[str, ...]:
        """The wait chain that a request sent from here carries; computed anew, it leaves out handlers that
        gave up.
        """
        return (*self.envelope.chain, self.key) if self.envelope is not None else (self.key,)


@dataclass(slots=True)
class StartOrder:
    """Actors that start one after the other: later ones wait for the one that is starting."""

    members: tuple[str, ...] = ()
    starting: HandlerContext | None = None
    """None while the starting actor is in another process."""

    def starts_in(self, chain: tuple[str, ...]) -> bool:
        """Whether one of these actors is in the chain, waiting in its on_start."""
        return any(name + ON_START in chain for name in self.members)


current_handling: ContextVar[HandlerContext | None] = ContextVar("current_handling", default=None)
"""Set while a handler or `on_start` runs; unset in `run`, which blocks no message."""


def inspect(mailbox: HandlerQueue, chain: tuple[str, ...], found: CycleFound) -> None:
    """Check a wait with this chain that reached `mailbox`: call `found` if it can never end."""
    path = (*chain, mailbox.key)
    if mailbox.start_order is not None:
        starting = mailbox.start_order.starting
        if mailbox.start_order.starts_in(chain):
            found(path)
        elif starting is not None:
            _follow(starting, (*path, starting.key), found)
    elif _taken(mailbox, chain) >= mailbox.capacity:
        found(path)
    elif (
        mailbox.handling is not None
    ):  # only a queue that handles one message at a time is blocked by one wait
        _follow(mailbox.handling, path, found)


def _taken(mailbox: HandlerQueue, chain: tuple[str, ...]) -> int:
    """How many of the queue's handlers are in the chain."""
    if mailbox.handling is not None and not mailbox.handling.waits and chain[-1] != mailbox.handling.key:
        return 0  # the chain is from another process, where the handler has given up meanwhile
    return chain.count(mailbox.key) + chain.count(mailbox.key + ON_START)


def _follow(handling: HandlerContext, path: tuple[str, ...], found: CycleFound) -> None:
    for channel, message in tuple(handling.waits):
        channel.inbox.probe(channel.target, message, path, found)


def describe(chain: tuple[str, ...]) -> str:
    """The circular wait as a sentence."""
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
