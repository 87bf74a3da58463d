"""Node setup: everything that is sent to a node's process at its start, and the message of its failure."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio.abc import ByteSendStream

from actorq.actors import ActorSpec, Membership
from actorq.actors.wire.transport import Transport

from .log_forwarding import levels_in_force
from .pickling import PicklingError, pickle_value

if TYPE_CHECKING:
    # Not imported in a node's process, which must start fast.
    from actorq.topology.address import Address
    from actorq.topology.schema import Backend

NODE_COMMAND = ("-P", "-m", "actorq.launchers.process.child")
"""Python's arguments for a node's process, followed by the number of an inherited socket and the parent's
pid.

-P: modules in the working directory are imported only if the caller's process would import them.
"""

LENGTH = struct.Struct("<Q")
"""Length that precedes the pickled setup."""


def _path_of_main() -> str | None:
    return getattr(sys.modules["__main__"], "__file__", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSetup:
    """Everything a node's process needs; fields left out are taken from the process that makes this."""

    node: str
    membership: Membership
    """With the node's own incarnation."""
    transport: Callable[[], Transport]
    """Usually the transport's class: to find it by name would take the node time."""
    backend: Backend
    specs: tuple[ActorSpec, ...]
    """All actors of the run."""
    threads: int
    """Threads for this node's computing libraries: its share of the cores."""
    delivery_log_fd: int | None = None
    """Shared memory page of the delivery log; its descriptor has the same number in both processes."""
    log_levels: dict[str, int] = field(default_factory=levels_in_force)
    path_of_main: str | None = field(default_factory=_path_of_main)
    """File of the caller's `__main__`; it is not executed."""
    python_path: str | None = field(default_factory=lambda: os.environ.get("PYTHONPATH"))
    """The caller's PYTHONPATH; the node is started with another, made from the caller's sys.path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """Settings that all launchers of a run share."""

    specs: tuple[ActorSpec, ...]
    """All actors of the run."""
    transport: Callable[[], Transport]
    membership: Membership
    """Its `folder` exists; its `addresses` are empty unless a launcher of the run is `on_network`."""
    backend: Backend
    local_nodes: int = 0
    """Number of nodes that share this machine's cores with the caller's process."""
    topology: str = ""
    """The topology as TOML, for nodes that create the specs themselves."""
    address: Address | None = None
    """Address at which main listens on the network, if the topology has one."""
    join_token: Path | None = None
    """The file to write for joining hosts; None if the caller named none."""

    def node(self, name: str, incarnation: int) -> NodeSetup:
        """The setup for one start of a node."""
        return NodeSetup(
            node=name,
            membership=replace(self.membership, incarnation=incarnation),
            transport=self.transport,
            backend=self.backend,
            specs=self.specs,
            threads=max(1, len(os.sched_getaffinity(0)) // (1 + self.local_nodes)),
        )


async def send_setup(stream: ByteSendStream, setup: NodeSetup) -> None:
    """Send the setup to a process that was started by NODE_COMMAND, before anything else.

    Raises PicklingError naming the actor that can't be pickled. A process that has ended is no error.
    """
    await send_pickled(stream, pickle_setup(setup))


async def send_pickled(stream: ByteSendStream, handed: bytes) -> None:
    """Send the bytes made by `pickle_setup`."""
    with suppress(anyio.BrokenResourceError):
        await stream.send(LENGTH.pack(len(handed)) + handed)


def pickle_setup(setup: NodeSetup) -> bytes:
    """Raises PicklingError naming the actor that can't be pickled."""
    try:
        return pickle_value(setup)
    except PicklingError:
        for spec in setup.specs:
            try:
                pickle_value(spec)
            except PicklingError as error:
                raise PicklingError(f"actor {spec.name!r} can't run in another process: {error}") from error
        raise


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Last message of a node's process that an exception ended; its exit status is 1."""

    traceback: str
