"""Readings of a running system's parts, as frozen structs: metrics, the live view and tests read these."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

_LINK_COUNTS = ("sent", "handled", "superseded", "undelivered")


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Channel from one sender to one receiver."""

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

    def after(self, before: ChannelStatistics | None) -> ChannelStatistics:
        """The sum of these counts and those of an earlier process."""
        if before is None:
            return self
        counts = {name: getattr(self, name) + getattr(before, name) for name in _LINK_COUNTS}
        return replace(self, **counts)


@dataclass(frozen=True, slots=True)
class MailboxStatistics:
    """Unread messages of one actor, and the numbers of received messages by outcome."""

    unread: int
    unread_bytes: int
    in_progress: int
    handled: int
    refused: int


@dataclass(frozen=True, slots=True)
class ActorStatistics:
    """One actor, with its channels to others."""

    name: str
    node: str
    alive: bool
    restarts: int
    crashes: int
    mailbox: MailboxStatistics
    channels: tuple[ChannelStatistics, ...]

    @property
    def messages_out(self) -> int:
        return sum(channel.sent for channel in self.channels)

    def after(self, before: ActorStatistics | None) -> ActorStatistics:
        """The sum of these counts and those of an earlier process of its node, which had the same actors and
        channels.
        """
        if before is None:
            return self
        earlier = {channel.target: channel for channel in before.channels}
        mailbox = replace(
            self.mailbox,
            handled=self.mailbox.handled + before.mailbox.handled,
            refused=self.mailbox.refused + before.mailbox.refused,
        )
        channels = tuple(channel.after(earlier.get(channel.target)) for channel in self.channels)
        return replace(self, mailbox=mailbox, channels=channels)


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """Traffic between the processes of a run, or between one process and the others."""

    connections: int = 0
    """Connections established, that is, dialed and welcomed; each node has two to each peer."""
    frames_out: int = 0
    bytes_out: int = 0
    frames_in: int = 0
    bytes_in: int = 0
    frames_resent: int = 0
    """Frames sent again after a lost connection; counted in `frames_out` too."""
    repeats_dropped: int = 0
    """Frames received a second time."""
    unauthenticated: int = 0
    """Connections closed because they began with anything but a fresh, genuine hello to this node."""
    mismatched: int = 0
    """Connections closed because the other end has another protocol version or another route table."""
    early: int = 0
    """Connections closed because this end doesn't know the peer (yet), or another incarnation of it."""
    without_hello: int = 0
    """Connections that ended before a hello: silent for too long, too many at a time, or gone."""
    bad_frames: int = 0
    """Frames of authenticated peers that break the protocol; each closed its connection."""

    @property
    def refused(self) -> int:
        """Connections and frames that were refused."""
        return self.unauthenticated + self.mismatched + self.without_hello + self.bad_frames

    def __add__(self, other: TransportStatistics) -> TransportStatistics:
        names = [field.name for field in fields(self)]
        return TransportStatistics(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True, slots=True)
class SystemStatistics:
    """All actors of a run, its dead letters, and the traffic between its processes."""

    actors: tuple[ActorStatistics, ...]
    undelivered: int
    in_doubt: int
    transport: TransportStatistics = TransportStatistics()

    @property
    def restarts(self) -> int:
        return sum(actor.restarts for actor in self.actors)

    @property
    def dead_letters(self) -> int:
        return self.undelivered + self.in_doubt
