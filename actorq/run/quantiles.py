"""Quantiles of very many small counts, kept in little memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

EXACT_BITS = 10


class Quantiles(msgspec.Struct, frozen=True):
    """Of all that was observed: the smallest value that at least this share doesn't exceed."""

    p50: float
    p90: float
    p99: float
    max: float


class Histogram:
    """Counts values that are whole and not negative: exact below 1024, by 10 leading bits above (0.1 %).

    So its size is bounded (about 500 cells per doubling) however long the run.
    """

    def __init__(self) -> None:
        self._cells: dict[int, int] = {}
        self._largest = 0

    def __len__(self) -> int:
        """Values observed."""
        return sum(self._cells.values())

    def add(self, value: float) -> None:
        """Observe one value; what is negative or infinite counts as 0, a fraction is cut off."""
        whole = int(value) if 0 < value < math.inf else 0
        if whole > self._largest:
            self._largest = whole
        cell = whole
        if whole >> EXACT_BITS:
            shift = whole.bit_length() - EXACT_BITS
            cell = whole >> shift << shift
        self._cells[cell] = self._cells.get(cell, 0) + 1

    def quantiles(self) -> Quantiles | None:
        """None if nothing was observed."""
        if not self._cells:
            return None
        return Quantiles(self._at(0.5), self._at(0.9), self._at(0.99), float(self._largest))

    def _at(self, share: float) -> float:
        wanted = share * len(self)
        for cell in sorted(self._cells):
            wanted -= self._cells[cell]
            if wanted <= 0:
                return float(cell)
        return float(self._largest)

    def state(self) -> dict[str, Any]:
        """From any thread, while others observe."""
        return {"cells": [list(cell) for cell in dict(self._cells).items()], "largest": self._largest}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._cells = dict(state["cells"])
        self._largest = state["largest"]
