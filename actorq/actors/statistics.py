"""Readings of a running system's parts, as frozen structs: metrics, the live view and tests read these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """One sender's way to one receiver."""

    target: str
    sent: int
    handled: int
    superseded: int
    undelivered: int
    """Dead letters: undelivered and in doubt."""
    outstanding: int
    """Messages sent and not settled yet."""
    outstanding_bytes: int
    waiting: int
    """Tasks that wait for credit."""


@dataclass(frozen=True, slots=True)
class MailboxStatistics:
    """What waits at one actor, and what came of what came."""

    unread: int
    unread_bytes: int
    at_hand: int
    handled: int
    refused: int


@dataclass(frozen=True, slots=True)
class ActorStatistics:
    """One actor, with its links to others."""

    name: str
    node: str
    alive: bool
    restarts: int
    crashes: int
    mailbox: MailboxStatistics
    links: tuple[LinkStatistics, ...]

    @property
    def messages_out(self) -> int:
        return sum(link.sent for link in self.links)


@dataclass(frozen=True, slots=True)
class SystemStatistics:
    """All actors of a run, and its dead letters."""

    actors: tuple[ActorStatistics, ...]
    undelivered: int
    in_doubt: int

    @property
    def restarts(self) -> int:
        return sum(actor.restarts for actor in self.actors)

    @property
    def dead_letters(self) -> int:
        return self.undelivered + self.in_doubt
