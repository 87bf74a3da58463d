"""What a node process is given at its start, and what it says at a bad end."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from actorq.actors.spec import ActorSpec
from actorq.actors.wire.transport import Transport

from .log_forwarding import levels_in_force

LENGTH = struct.Struct("<Q")
"""Comes before what was handed over."""


def _path_of_main() -> str | None:
    return getattr(sys.modules["__main__"], "__file__", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSetup:
    """Handed over by `GuardedProcess`; what isn't given is as it is in the process that makes this."""

    node: str
    incarnation: int
    run: str
    secret: bytes
    folder: str
    """Private to the run, for its sockets."""
    transport: Callable[[], Transport]
    """Its class, as a rule: finding it by name would take the node time."""
    backend: Literal["asyncio", "trio"]
    specs: tuple[ActorSpec, ...]
    """All actors of the run."""
    threads: int
    """For the computing libraries of this node: its share of the cores."""
    delivery_log_fd: int | None = None
    """A page of memory, by the number that its descriptor has in both processes."""
    tls: Any | None = None
    addresses: tuple[str, ...] = ()
    log_levels: dict[str, int] = field(default_factory=levels_in_force)
    path_of_main: str | None = field(default_factory=_path_of_main)
    """The file of the caller's `__main__`; it isn't run."""
    python_path: str | None = field(default_factory=lambda: os.environ.get("PYTHONPATH"))
    """The caller's PYTHONPATH: the node starts with another, made from the caller's sys.path."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The last a node process says if an exception ended it; it exits with status 1 then."""

    traceback: str
