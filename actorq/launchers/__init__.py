"""Who starts the nodes of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .thread_engine import ThreadEngine

__all__ = ["ThreadEngine"]


def __getattr__(name: str) -> Any:
    """Lazily: a node's process imports other parts of this package, and is to start fast."""
    if name == "ThreadEngine":
        from .thread_engine import ThreadEngine

        return ThreadEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
