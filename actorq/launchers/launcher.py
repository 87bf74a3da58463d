"""Base class of launchers, which start the nodes of one `place`, and of the handles of launched nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self, cast

import anyio
import msgspec

from actorq.actors import Death, NodeDied, NodeHandle, Peer
from actorq.actors.supervision.control_messages import Commands, Listening, NodeEvents
from actorq.topology import NodeSpec

from .control_stream import ControlStream
from .log_forwarding import Logged, relog
from .node_setup import Failed, NodeSetup, RunSetup


class NodeLauncher(ABC):
    """Starts the nodes of one `place`, its name in the entry-point group `actorq.launchers`.

    One object for each run, used as an async context manager on the actors' loop: on leaving it, all
    processes that it has started have ended.
    """

    on_network: ClassVar[bool] = False
    """True if its nodes run on other machines: then main must listen at `nodes.main.address`, over TLS."""
    needs_importable: ClassVar[bool] = False
    """True if its nodes import the actors' classes by name; False if the specs are sent to them, classes
    included.
    """

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """Settings of one node, a table `[nodes.NODE.LAUNCHER]`; a launcher that has some overrides it."""

    @classmethod
    def problems(cls, options: Any) -> Iterable[tuple[str, str]]:
        """Validate a node's options beyond their types: yield pairs of a key and a sentence."""
        return ()

    def __init__(self, run: RunSetup, nodes: Sequence[NodeSpec]) -> None:
        """`nodes`: the nodes that it will be asked to launch."""
        self.run = run
        self.nodes = {node.name: node for node in nodes}

    async def __aenter__(self) -> Self:
        """Raises NodeFailed and ActorqError if no node can be started."""
        self.tasks = anyio.create_task_group()
        await self.tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Cancel `tasks`, the task group that runs beside the nodes. Errors are raised without the group
        around them.
        """
        self.tasks.cancel_scope.cancel()
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return await self.tasks.__aexit__(kind, error, traceback)
        await self.tasks.__aexit__(None, None, None)
        return None

    @abstractmethod
    async def launch(self, setup: NodeSetup) -> NodeHandle:
        """Start a node and return when its peers can reach it.

        Called again, with another incarnation, after the node died. Raises NodeDied with the reason if it
        doesn't start. Cancelled, its process is ended.
        """


class StreamedNode(ABC):
    """A NodeHandle over a control stream; a subclass adds how the node's process is ended."""

    peer: Peer

    def __init__(self, stream: ControlStream) -> None:
        """`stream` carries `NODE_EVENTS`; the subclass serves it."""
        self.stream = stream
        self.failure = ""
        """The traceback that ended the node, after a line end, once it was received."""

    def post(self, command: Commands) -> None:
        self.stream.send_soon(command)

    async def listening(self) -> None:
        """Return when peers can reach it. Raises NodeDied."""
        async for node_event in self:
            if isinstance(node_event, Listening):
                self.peer = node_event.peer
                return
        raise NodeDied(f"did not start: {(await self.ended()).reason}")

    def node_events(self) -> AsyncIterator[NodeEvents]:
        """The node's events; its log records are passed on to this process's logging."""
        return self

    def __aiter__(self) -> AsyncIterator[NodeEvents]:
        return self  # not a generator, which would have to be closed when only partly read

    async def __anext__(self) -> NodeEvents:
        async for node_event in self.stream:
            if isinstance(node_event, Logged):
                relog(node_event)
            elif isinstance(node_event, Failed):
                self.failure += f"\n{node_event.traceback}"
            else:
                return cast(NodeEvents, node_event)
        raise StopAsyncIteration

    @abstractmethod
    async def ended(self) -> Death:
        """See NodeHandle."""

    @abstractmethod
    async def aclose(self) -> None:
        """See NodeHandle."""


NODE_EVENTS = Logged | Failed | NodeEvents
"""Messages received over a node's control stream."""
