"""The actors of one process: their cells, wired, and their ways to the nodes of other processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from actorq.actors.message import Message
from actorq.actors.ref import Ref
from actorq.actors.spec import MAIN, OUTSIDE, ActorSpec
from actorq.actors.supervision.delivery_log import Ledger
from actorq.actors.wire.link_schema import Border
from actorq.actors.wire.peer_session import Neighbour
from actorq.actors.wire.transport import CircleFound, Inbox, Membership, Peer, Transport

from .actor_cell import Cell
from .channel import Link
from .envelope import DeadLetter, Letter, Outcome
from .incarnation import Life
from .reports import Reports
from .scheduler import Scheduler
from .wiring import connections, wire

log = logging.getLogger("actorq.actors")


HEADROOM_BYTES = 32 * 2**20
"""What a frame may hold besides one message of the largest size that a mailbox takes."""


class Node:
    """The actors of one node: finds a letter's cell."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cells: dict[str, Cell] = {}

    def deliver(self, letter: Letter) -> None:
        self.cells[letter.target].accept(letter)

    def deliver_run(self, letters: Sequence[Letter]) -> None:
        self.cells[letters[0].target].accept_run(letters)

    def probe(self, target: str, message: type[Message], chain: tuple[str, ...], found: CircleFound) -> None:
        self.cells[target].probe(message, chain, found)


class LocalActors:
    """Made before anything runs; whoever owns it starts and ends the cells, and runs `transport.serve`."""

    def __init__(
        self,
        specs: Mapping[str, ActorSpec],
        here: Sequence[str],
        *,
        transport: Transport,
        membership: Membership,
        scheduler: Scheduler,
        reports: Reports,
        on_end: Callable[[Cell, Life], None],
        ledger: Ledger | None = None,
        direct: bool = False,
    ) -> None:
        """`here`: the nodes of this process; `direct`: they reach each other without the transport.

        `ledger`: of its one node, if somebody is to read it later.
        """
        self.specs = specs
        self.transport = transport
        self.membership = membership = _with_room_for(specs, membership)
        self.scheduler = scheduler
        self.undelivered = self.in_doubt = 0
        self.nodes = {name: Node(name) for name in here}
        self.cells: dict[str, Cell] = {}
        for spec in specs.values():
            if spec.node in self.nodes:
                cell = Cell(spec, scheduler, reports, on_end)
                self.cells[spec.name] = self.nodes[spec.node].cells[spec.name] = cell
                if ledger is not None:
                    cell.keep_ledger(ledger)
        borders = self._borders(direct)  # what is wrong is found before anything is opened
        for node in self.nodes.values():
            transport.open(node.name, node, membership)
        self._ways: dict[tuple[str, str], Inbox] = {
            (me, other): self.nodes[other] if border is None else transport.route(border)
            for (me, other), border in borders.items()
        }
        self._outside: list[Link] = []
        wire(self.cells, specs, self._link)

    def _borders(self, direct: bool) -> dict[tuple[str, str], Border | None]:
        """Between each node here and every node that it has to do with; None where letters need no transport.

        Raises DefinitionError if ports can't be wired, or for what can't travel.
        """
        list(connections(self.specs))
        names = dict.fromkeys([MAIN, *(spec.node for spec in self.specs.values()), *self.nodes])
        borders: dict[tuple[str, str], Border | None] = {}
        for me in self.nodes:
            for other in names:
                border = Border(self.specs, me, other, self.membership.incarnation)
                if direct and other in self.nodes:
                    borders[me, other] = None
                elif not self.transport.crosses_processes or border.out.ways or border.into.ways:
                    borders[me, other] = border
        return borders

    def _link(self, sender: Cell, target: ActorSpec, carries: Sequence[type[Message]]) -> Link:
        def dead(letter: DeadLetter, asked: bool) -> None:
            self._dead_letter(letter)
            if not asked:
                sender.note_dead_letter(letter)

        inbox = self._ways[sender.spec.node, target.node]
        link = Link(sender.name, target.name, carries, inbox, target.mailbox, self.scheduler, dead)
        sender.links.append(link)
        return link

    def ref(self, spec: ActorSpec) -> Ref[Any]:
        """For the application outside, which is where the node `main` is."""

        def dead(letter: DeadLetter, asked: bool) -> None:
            self._dead_letter(letter)

        inbox = self._ways[MAIN, spec.node]
        carries = list(spec.cls.definition.complete().handlers)
        link = Link(OUTSIDE, spec.name, carries, inbox, spec.mailbox, self.scheduler, dead)
        self._outside.append(link)
        return Ref(link)

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

    # Other nodes.

    def peers(self) -> list[Peer]:
        """How the nodes of this process are reached from others."""
        found = (self.transport.whereabouts(node) for node in self.nodes)
        return [peer for peer in found if peer is not None]

    def meet(self, peers: Sequence[Peer]) -> None:
        """These nodes can be reached; some of them may be here."""
        for peer in peers:
            for me in self._neighbours_of(peer.name):
                try:
                    self.transport.meet(me, peer)
                except OSError as error:  # it has died since; who tells of it will tell of that too
                    log.warning("node %s can't be reached: %s", peer.name, error)

    def part(self, name: str, page: bytes | None, reason: str, for_good: bool) -> None:
        """A node has died. `page`: its ledger."""
        for me, neighbour in self._neighbours_of(name).items():
            self.transport.part(me, name)
            neighbour.part(page, reason)
            if for_good:
                neighbour.bury(reason)

    def _neighbours_of(self, name: str) -> dict[str, Neighbour]:
        """The ways to a node by the nodes here that they lead from."""
        ways = {me: way for (me, other), way in self._ways.items() if other == name}
        return {me: way for me, way in ways.items() if isinstance(way, Neighbour)}

    # Stopping.

    async def close(self) -> None:
        """Close the transport. What was not answered, and what is sent from now on, goes back."""
        try:
            await self.transport.close()
        finally:
            for name in sorted({other for _, other in self._ways}):
                self.part(name, None, "the run has stopped", for_good=True)

    def stop_runs(self) -> None:
        for cell in self.cells.values():
            cell.stop_run()

    async def quiet(self) -> int:
        """Return when nothing is at hand here or on its way from here, with a count of all that has happened.

        If all processes twice answer as before, nothing was on its way between them.
        """
        ways = list(self._ways.values())
        while True:
            busy = self.busy()
            if busy:
                await busy[0].drained()
            elif waiting := [way for way in ways if isinstance(way, Neighbour) and not way.quiet]:
                await waiting[0].quieted()
            else:
                return self._happened()

    def busy(self) -> list[Cell]:
        """The actors that are at a message, have unread ones, or have yet to leave their loop."""
        return [cell for cell in self.cells.values() if cell.busy]

    def _happened(self) -> int:
        sent = sum(link.sent for cell in self.cells.values() for link in cell.links)
        return (
            sent
            + sum(cell.handled for cell in self.cells.values())
            + sum(link.sent for link in self._outside)
        )


def _with_room_for(specs: Mapping[str, ActorSpec], membership: Membership) -> Membership:
    largest = max((spec.mailbox.bytes for spec in specs.values()), default=0)
    needed = max(membership.max_frame_bytes, largest + HEADROOM_BYTES)
    return replace(membership, max_frame_bytes=needed)
