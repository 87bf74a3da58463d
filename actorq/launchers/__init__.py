"""Who starts the nodes of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .thread_engine import Here

__all__ = ["Here"]


def __getattr__(name: str) -> Any:
    """Lazily: a node's process imports other parts of this package, and is to start fast."""
    if name == "Here":
        from .thread_engine import Here

        return Here
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
