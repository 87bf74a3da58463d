"""Which gradients are outliers, by the loss of their batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

WARM_UP = 100
"""The first so many losses make the first mean; none of them is an outlier."""


class OutlierFilter:
    """A worker's own filter: a loss too far above the running mean (Gorila, arXiv 1507.04296, section 4).

    Mean and deviation are those of the first 100 losses, then decay exponentially, by 1 % with each further
    one. An outlier counts in them as if it lay just at the bound: a single one, however large, moves the
    bound little, and losses that stay high are soon no outliers any more.
    """

    def __init__(self, deviations: float | None) -> None:
        """`deviations`: how many of them the bound lies above the mean, 2 or more; None: no bound."""
        self._deviations = math.inf if deviations is None else deviations
        self._count = 0
        self._mean = 0.0
        self._variance = 0.0

    def is_outlier(self, loss: float) -> bool:
        """Judge a loss by those before it, and count it among them. It is finite."""
        outlier = False
        if self._count >= WARM_UP and math.isfinite(self._deviations) and self._variance > 0.0:
            bound = self._mean + self._deviations * math.sqrt(self._variance)
            outlier = loss > bound
            loss = min(loss, bound)
        self._count += 1
        weight = 1.0 / min(self._count, WARM_UP)
        distance = loss - self._mean
        self._mean += weight * distance
        self._variance = (1.0 - weight) * (self._variance + weight * distance * distance)
        return outlier

    def state(self) -> dict[str, Any]:
        return {"count": self._count, "mean": self._mean, "variance": self._variance}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._count, self._mean, self._variance = state["count"], state["mean"], state["variance"]
