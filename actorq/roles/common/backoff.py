"""Exponential back-off of recoveries."""

from __future__ import annotations

MIN_SECONDS, MAX_SECONDS = 0.01, 1.0


def backoff_seconds(failures: int) -> float:
    """Pause after `failures` attempts in a row have failed: none after the first, then doubled each time."""
    return 0.0 if failures <= 1 else min(MIN_SECONDS * 2.0 ** (failures - 2), MAX_SECONDS)
