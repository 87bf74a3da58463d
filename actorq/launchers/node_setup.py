"""The setup that a node's process gets at its start, and the message of its failure."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from anyio.abc import ByteSendStream

from actorq.actors import ActorSpec, Membership
from actorq.actors.wire.transport import Transport

from .log_forwarding import levels_in_force
from .pickling import PicklingError, hand_over

if TYPE_CHECKING:
    # Not in a node's process, which is to start fast.
    from actorq.topology.address import Address
    from actorq.topology.schema import Backend

NODE_COMMAND = ("-P", "-m", "actorq.launchers.process.child")
"""Python's arguments for a node's process; two more are an inherited socket's number and the parent's pid.

-P: what lies in the working directory is imported only if it would be in the caller's process.
"""

LENGTH = struct.Struct("<Q")
"""Comes before what was handed over."""


def _path_of_main() -> str | None:
    return getattr(sys.modules["__main__"], "__file__", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSetup:
    """All that a node's process needs; fields left out are taken from the process that makes this."""

    node: str
    incarnation: int
    run: str
    secret: bytes
    folder: str
    """Private to the run, for its sockets."""
    transport: Callable[[], Transport]
    """Its class, as a rule: finding it by name would take the node time."""
    backend: Backend
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """What all launchers of a run are given."""

    specs: tuple[ActorSpec, ...]
    """All actors of the run."""
    transport: Callable[[], Transport]
    membership: Membership
    """Its `folder` is there; its `addresses` are empty unless a launcher of the run is `on_network`."""
    backend: Backend
    local_nodes: int = 0
    """Nodes that share this machine's cores with the caller's process."""
    topology: str = ""
    """As TOML, for nodes that make the specs themselves."""
    address: Address | None = None
    """Where main listens on the network, if the topology says so."""
    join_token: Path | None = None
    """The file to write for hosts that join; None if the caller named none."""

    def node(self, name: str, incarnation: int) -> NodeSetup:
        """The setup of one start of a node."""
        membership = self.membership
        assert membership.folder is not None
        return NodeSetup(
            node=name,
            incarnation=incarnation,
            run=membership.run,
            secret=membership.secret,
            folder=membership.folder,
            transport=self.transport,
            backend=self.backend,
            specs=self.specs,
            threads=max(1, len(os.sched_getaffinity(0)) // (1 + self.local_nodes)),
            tls=membership.tls,
            addresses=membership.addresses,
        )


async def send_setup(stream: ByteSendStream, setup: NodeSetup) -> None:
    """Hand the setup over to a process that was started by NODE_COMMAND, before anything else is sent.

    Raises PicklingError naming the actor that can't be handed over. The end of the process is no error.
    """
    await send_handed(stream, pickle_setup(setup))


async def send_handed(stream: ByteSendStream, handed: bytes) -> None:
    """Send what `pickle_setup` gave."""
    with suppress(anyio.BrokenResourceError):
        await stream.send(LENGTH.pack(len(handed)) + handed)


def pickle_setup(setup: NodeSetup) -> bytes:
    """Raises PicklingError naming the actor that can't be handed over."""
    try:
        return hand_over(setup)
    except PicklingError:
        for spec in setup.specs:
            try:
                hand_over(spec)
            except PicklingError as error:
                raise PicklingError(f"actor {spec.name!r} can't run in another process: {error}") from error
        raise


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Sent last by a node's process that an exception ended; its exit status is 1."""

    traceback: str
