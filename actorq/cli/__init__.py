"""The `actorq` command: run, node, check, graph, schema, roles, eval."""

from __future__ import annotations

from .main import main

__all__ = ["main"]
