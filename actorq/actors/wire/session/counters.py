"""Counters of one endpoint's traffic; `TransportStatistics` says what each means."""

from __future__ import annotations

from actorq.actors.statistics import TransportStatistics


class Counts:
    """`TransportStatistics` while they grow."""

    def __init__(self) -> None:
        self.connections = 0
        self.frames_out = self.bytes_out = self.frames_in = self.bytes_in = 0
        self.frames_resent = self.repeats_dropped = 0
        self.unauthenticated = self.mismatched = self.early = self.without_hello = self.bad_frames = 0

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(**vars(self))
