"""Launchers, which start the nodes of a run, and the engine that runs its coordinator."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .control_stream import ControlStream
    from .launcher import NODE_EVENTS, NodeLauncher, StreamedNode
    from .node_setup import NODE_COMMAND, NodeSetup, RunSetup, send_setup

_MODULES = {
    "NODE_COMMAND": "node_setup",
    "NODE_EVENTS": "launcher",
    "ControlStream": "control_stream",
    "NodeLauncher": "launcher",
    "NodeSetup": "node_setup",
    "RunSetup": "node_setup",
    "StreamedNode": "launcher",
    "send_setup": "node_setup",
}

__all__ = [
    "NODE_COMMAND",
    "NODE_EVENTS",
    "ControlStream",
    "NodeLauncher",
    "NodeSetup",
    "RunSetup",
    "StreamedNode",
    "send_setup",
]


def __getattr__(name: str) -> Any:
    """Import lazily: a node's process needs other parts of this package, and must start fast."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
