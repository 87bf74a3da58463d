"""The base class of launchers: what starts the nodes of one `place`, and what a launched node answers to."""

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
    """Starts the nodes whose `place` is the name under which the entry-point group `actorq.launchers` has it.

    One object for each run, used as an async context manager on the actors' loop: once left, no process that
    it has started is left.
    """

    on_network: ClassVar[bool] = False
    """Its nodes run on other machines: main has to listen at `nodes.main.address`, over TLS."""
    needs_importable: ClassVar[bool] = False
    """Its nodes import the actors' classes by name; False if it hands over the specs, classes included."""

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """Settings of one node, a table `[nodes.NODE.LAUNCHER]`; a launcher that has some overrides it."""

    @classmethod
    def problems(cls, options: Any) -> Iterable[tuple[str, str]]:
        """What types can't tell is wrong with a node's options: pairs of a key and a sentence."""
        return ()

    def __init__(self, run: RunSetup, nodes: Sequence[NodeSpec]) -> None:
        """`nodes`: those that it will be asked to launch."""
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
        """Cancel `tasks`, the group of what runs beside the nodes. Errors are passed on ungrouped."""
        self.tasks.cancel_scope.cancel()
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return await self.tasks.__aexit__(kind, error, traceback)
        await self.tasks.__aexit__(None, None, None)
        return None

    @abstractmethod
    async def launch(self, setup: NodeSetup) -> NodeHandle:
        """Start a node and return when its peers can reach it.

        Called again, with another incarnation, after the node died. Raises NodeDied with the reason if it
        does not come up. Cancelled, nothing of it is left.
        """


class StreamedNode(ABC):
    """A NodeHandle over a control stream; a subclass adds how the node's process is ended."""

    peer: Peer

    def __init__(self, stream: ControlStream) -> None:
        """`stream`: of `NODE_EVENTS`, served by the subclass."""
        self.stream = stream
        self.failure = ""
        """The traceback that ended the node, after a line end, once it was read."""

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
        """What the node reports, its log records passed on to this process's logging."""
        return self

    def __aiter__(self) -> AsyncIterator[NodeEvents]:
        return self  # no generator: one that is left half read has to be closed

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
"""What comes over a node's control stream."""
