"""What an endpoint counts."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class EndpointCounters:
    """One node's traffic with all others, since its start."""

    connections: int
    """Connections made, that is dialed by this end and welcomed by the other."""
    frames_out: int
    bytes_out: int
    frames_in: int
    bytes_in: int
    frames_resent: int
    """After a connection was lost; counted in `frames_out` too."""
    repeats_dropped: int
    """Frames that came a second time."""
    strangers: int
    """Connections closed since they began with something else than a fresh, genuine hello to this node."""
    mismatched: int
    """Connections closed since the other end has another protocol version or another contract."""
    early: int
    """Connections closed since this end doesn't know the peer (yet), or another incarnation of it."""
    unproven: int
    """Connections that ended without a word: silent for too long, too many at a time, or gone."""
    bad_frames: int
    """Frames of proven peers that break the protocol; each cost them that connection."""


class Counts:
    """The same numbers while they grow."""

    __slots__ = tuple(field.name for field in fields(EndpointCounters))

    connections: int
    frames_out: int
    bytes_out: int
    frames_in: int
    bytes_in: int
    frames_resent: int
    repeats_dropped: int
    strangers: int
    mismatched: int
    early: int
    unproven: int
    bad_frames: int

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    def statistics(self) -> EndpointCounters:
        return EndpointCounters(**{name: getattr(self, name) for name in self.__slots__})
