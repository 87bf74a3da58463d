"""Who starts the nodes of a run."""

from __future__ import annotations

from .here import Here

__all__ = ["Here"]
