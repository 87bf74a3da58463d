"""How much of the time something was under way."""

from __future__ import annotations

from collections.abc import Callable


class Utilization:
    """Counts the time in which anything is inside its `with`, once, however many are."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._inside = 0
        self._began = self._seconds = 0.0

    def __enter__(self) -> None:
        if not self._inside:
            self._began = self._now()
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._inside -= 1
        if not self._inside:
            self._seconds += self._now() - self._began

    def take(self) -> float:
        """Seconds since it was last asked, when nothing is inside."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
