"""Utilization: the time in which at least one task is inside."""

from __future__ import annotations

from actorq.roles.pipeline.schedule import Utilization


def test_what_overlaps_counts_once() -> None:
    clock = 0.0
    busy = Utilization(lambda: clock)
    clock = 1.0
    with busy:
        clock = 2.0
        with busy:
            clock = 4.0
        clock = 5.0
    clock = 7.0
    with busy:
        clock = 7.5
    assert busy.take() == 4.5
    assert busy.take() == 0.0
