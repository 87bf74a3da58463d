"""Where actors' readings and counts go."""

from __future__ import annotations

from collections import Counter
from typing import Protocol


class Reports(Protocol):
    """Called by actors, from the run's event loop, often: implementations must be quick and not block."""

    def gauge(self, actor: str, name: str, value: float) -> None: ...
    def count(self, actor: str, name: str, amount: int) -> None: ...


class Tally:
    """The simplest reports: sums of counts, last readings."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}

    def gauge(self, actor: str, name: str, value: float) -> None:
        self.gauges[name] = value

    def count(self, actor: str, name: str, amount: int) -> None:
        self.counts[name] += amount
