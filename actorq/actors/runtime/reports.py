"""Reports: the interface that receives the actors' gauges, counts and observed distributions."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Protocol

from numpy.typing import NDArray

from actorq.actors.histogram import Distribution, Histogram


class Reports(Protocol):
    """Called often by actors, on the run's event loop: implementations must be quick and must not block."""

    def gauge(self, actor: str, name: str, value: float) -> None: ...
    def count(self, actor: str, name: str, amount: int) -> None: ...
    def observe(self, actor: str, name: str, values: float | NDArray[Any]) -> None: ...
    def merge(self, actor: str, name: str, observed: Distribution) -> None:
        """Merge a distribution observed by an actor of another process."""


class ReportTotals:
    """The simplest implementation: sums of counts, latest gauges, merged distributions."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.observed: defaultdict[str, Histogram] = defaultdict(Histogram)

    def gauge(self, actor: str, name: str, value: float) -> None:
        self.gauges[name] = value

    def count(self, actor: str, name: str, amount: int) -> None:
        self.counts[name] += amount

    def observe(self, actor: str, name: str, values: float | NDArray[Any]) -> None:
        self.observed[name].add(values)

    def merge(self, actor: str, name: str, observed: Distribution) -> None:
        self.observed[name].merge(observed)
