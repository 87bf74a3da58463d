"""The actors of one process: their cells and ports, and the routes to nodes in other processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from actorq.actors.message import Message
from actorq.actors.ref import Ref
from actorq.actors.runtime.inbox import Inbox
from actorq.actors.spec import MAIN, OUTSIDE, ActorSpec
from actorq.actors.supervision.delivery_log import DeliveryLog
from actorq.actors.wire.link_schema import LinkSchema
from actorq.actors.wire.peer_session import PeerSession
from actorq.actors.wire.transport import Membership, Peer, Transport

from .actor_cell import ActorCell, LocalNode
from .channel import Channel
from .envelope import DeadLetter, Outcome
from .incarnation import ActorIncarnation
from .reports import Reports
from .scheduler import Scheduler
from .wiring import connections, wire

log = logging.getLogger("actorq.actors")


HEADROOM_BYTES = 32 * 2**20
"""Room in a frame beyond one message of the largest size that a mailbox accepts."""


class LocalActors:
    """All actors of this process; its owner starts and stops the cells and runs `transport.serve`."""

    def __init__(
        self,
        specs: Mapping[str, ActorSpec],
        here: Sequence[str],
        *,
        transport: Transport,
        membership: Membership,
        scheduler: Scheduler,
        reports: Reports,
        on_end: Callable[[ActorCell, ActorIncarnation], None],
        delivery_log: DeliveryLog | None = None,
        direct: bool = False,
    ) -> None:
        """`here`: names of this process's nodes; `direct`: messages between them bypass the transport.

        `delivery_log`: that of the single node, if another process reads it after this one's death.
        """
        self.specs = specs
        self.transport = transport
        self.membership = membership = _with_room_for(specs, membership)
        self.scheduler = scheduler
        self.undelivered = self.in_doubt = 0
        self.nodes = {name: LocalNode(name) for name in here}
        self.cells: dict[str, ActorCell] = {}
        for spec in specs.values():
            if spec.node in self.nodes:
                cell = ActorCell(spec, scheduler, reports, on_end)
                self.cells[spec.name] = self.nodes[spec.node].cells[spec.name] = cell
                if delivery_log is not None:
                    cell.keep_delivery_log(delivery_log)
        link_schemas = self._link_schemas(direct)  # errors are found before anything is opened
        for node in self.nodes.values():
            transport.open(node.name, node, membership)
        self._routes: dict[tuple[str, str], Inbox] = {
            (me, other): self.nodes[other] if link_schema is None else transport.route(link_schema)
            for (me, other), link_schema in link_schemas.items()
        }
        self._outside: list[Channel] = []
        wire(self.cells, specs, self._channel, lambda me, other: self._routes[me, other])

    def _link_schemas(self, direct: bool) -> dict[tuple[str, str], LinkSchema | None]:
        """The link schema between each local node and every node it exchanges messages with; None if direct.

        Raises DefinitionError if ports can't be wired, or for message types that can't be encoded.
        """
        list(connections(self.specs))
        names = dict.fromkeys([MAIN, *(spec.node for spec in self.specs.values()), *self.nodes])
        link_schemas: dict[tuple[str, str], LinkSchema | None] = {}
        for me in self.nodes:
            for other in names:
                link_schema = LinkSchema(self.specs, me, other, self.membership.incarnation)
                if direct and other in self.nodes:
                    link_schemas[me, other] = None
                elif (
                    not self.transport.crosses_processes or link_schema.out.routes or link_schema.into.routes
                ):
                    link_schemas[me, other] = link_schema
        return link_schemas

    def _channel(self, sender: ActorCell, target: ActorSpec, carries: Sequence[type[Message]]) -> Channel:
        def dead(envelope: DeadLetter, asked: bool) -> None:
            self._dead_letter(envelope)
            if not asked:
                sender.note_dead_letter(envelope)

        inbox = self._routes[sender.spec.node, target.node]
        channel = Channel(sender.name, target.name, carries, inbox, target.mailbox, self.scheduler, dead)
        sender.channels.append(channel)
        return channel

    def ref(self, spec: ActorSpec) -> Ref[Any]:
        """A ref for the application, which sends from the node `main`."""

        def dead(envelope: DeadLetter, asked: bool) -> None:
            self._dead_letter(envelope)

        inbox = self._routes[MAIN, spec.node]
        carries = list(spec.cls.definition.complete().handlers)
        channel = Channel(OUTSIDE, spec.name, carries, inbox, spec.mailbox, self.scheduler, dead)
        self._outside.append(channel)
        return Ref(channel)

    def _dead_letter(self, dead: DeadLetter) -> None:
        if dead.outcome is Outcome.IN_DOUBT:
            self.in_doubt += 1
        else:
            self.undelivered += 1
        log.warning(
            "dead letter: %s from %s to %s, %s: %s",
            type(dead.message).__name__,
            dead.sender,
            dead.target,
            dead.outcome.value,
            dead.reason,
        )

    # Peer nodes.

    def peers(self) -> list[Peer]:
        """The peer records under which other processes reach this process's nodes."""
        found = (self.transport.address_of(node) for node in self.nodes)
        return [peer for peer in found if peer is not None]

    def peer_up(self, peers: Sequence[Peer]) -> None:
        """Connect to these nodes, some of which may be local."""
        for peer in peers:
            for me in self._peer_sessions_of(peer.name):
                try:
                    self.transport.peer_up(me, peer)
                except OSError as error:  # it has died meanwhile, which its supervisor reports
                    log.warning("node %s can't be reached: %s", peer.name, error)

    def peer_down(self, name: str, page: bytes | None, reason: str, for_good: bool) -> None:
        """Settle the messages to a node that has died, by its delivery log `page`; None if that can't be
        read.
        """
        for me, peer_session in self._peer_sessions_of(name).items():
            self.transport.peer_down(me, name)
            peer_session.peer_down(page, reason)
            if for_good:
                peer_session.retire(reason)

    def actors_down(self, ended: Mapping[str, int]) -> None:
        """Notify watchers of the last incarnations of actors that can't do so themselves."""
        for cell in self.cells.values():
            cell.actors_down(ended)

    def _peer_sessions_of(self, name: str) -> dict[str, PeerSession]:
        """The sessions with a node, by the local node that they belong to."""
        routes = {me: route for (me, other), route in self._routes.items() if other == name}
        return {me: route for me, route in routes.items() if isinstance(route, PeerSession)}

    # Stopping.

    async def close(self) -> None:
        """Close the transport. Unsettled messages, and messages sent from now on, are returned as
        undelivered.
        """
        try:
            await self.transport.close()
        finally:
            for name in sorted({other for _, other in self._routes}):
                self.peer_down(name, None, "the run has stopped", for_good=True)

    def stop_runs(self) -> None:
        for cell in self.cells.values():
            cell.stop_run()

    async def quiet(self) -> int:
        """Return when no message is in progress here or sent from here; the result counts all messages so
        far.

        If all processes return the same counts twice, no message was in transit between them.
        """
        routes = list(self._routes.values())
        while True:
            busy = self.busy()
            if busy:
                await busy[0].drained()
            elif waiting := [route for route in routes if isinstance(route, PeerSession) and not route.quiet]:
                await waiting[0].quieted()
            else:
                return self._happened()

    def busy(self) -> list[ActorCell]:
        """The actors with a message in progress or unread, or a cancelled loop that has not ended."""
        return [cell for cell in self.cells.values() if cell.busy]

    def _happened(self) -> int:
        sent = sum(channel.sent for cell in self.cells.values() for channel in cell.channels)
        return (
            sent
            + sum(cell.handled for cell in self.cells.values())
            + sum(channel.sent for channel in self._outside)
        )


def _with_room_for(specs: Mapping[str, ActorSpec], membership: Membership) -> Membership:
    largest = max((spec.mailbox.bytes for spec in specs.values()), default=0)
    needed = max(membership.max_frame_bytes, largest + HEADROOM_BYTES)
    return replace(membership, max_frame_bytes=needed)
