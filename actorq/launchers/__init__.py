"""Launchers, which start the nodes of a run, and the engine that runs its coordinator."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .launcher import NODE_EVENTS, NodeLauncher, StreamedNode
    from .node_setup import NodeSetup, RunSetup
    from .thread_engine import ThreadEngine

__all__ = ["NODE_EVENTS", "NodeLauncher", "NodeSetup", "RunSetup", "StreamedNode", "ThreadEngine"]

_MODULES = {"NodeSetup": "node_setup", "RunSetup": "node_setup", "ThreadEngine": "thread_engine"}


def __getattr__(name: str) -> Any:
    """Lazily: a node's process imports other parts of this package, and is to start fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'launcher')}"), name)
