"""The running actors of one process: made, wired, started in order, supervised, and stopped in order."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import anyio

from .actor import State
from .cell import Cell
from .circles import StartOrder
from .errors import ActorDied, ActorFailed
from .letter import DeadLetter, Letter, Outcome
from .link import Link
from .message import Message
from .ref import Group, Ref
from .reports import Reports, Tally
from .scheduling import Event, FreeScheduler, Scheduler
from .spec import ActorSpec, GroupSpec, MailboxBounds
from .statistics import SystemStatistics
from .supervision import Supervisor
from .transport import CircleFound, Transport, make_transport
from .turns import TurnScheduler
from .watchdog import Watchdog
from .wiring import wire

log = logging.getLogger("actorq.actors")

STOP_SECONDS = 2.0
"""What draining and `on_stop` together may take, beyond writing what must be written."""

DRAIN_SECONDS = 1.5
"""What draining may take of it."""

OUTSIDE = "outside"
"""The sender's name of what comes from the application that runs the actors."""


class Node:
    """The actors of one node: finds a letter's cell."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cells: dict[str, Cell] = {}

    def deliver(self, letter: Letter) -> None:
        self.cells[letter.target].accept(letter)

    def probe(self, target: str, message: type[Message], chain: tuple[str, ...], found: CircleFound) -> None:
        self.cells[target].probe(message, chain, found)


class System:
    """Runs actors on the current event loop: `async with System(specs) as system:`.

    Entering starts the actors in order and then their own loops; leaving stops them in order. If an actor
    crashes past its limits all are stopped, the body is cancelled and ActorFailed is raised, with the
    actor's error as its cause. Cancelled from outside, it stops in order within two seconds.
    """

    def __init__(
        self,
        specs: Sequence[ActorSpec],
        groups: Sequence[GroupSpec] = (),
        *,
        transport: Transport | None = None,
        reports: Reports | None = None,
        deterministic: bool = False,
        seed: int = 0,
        states: dict[str, State] | None = None,
    ) -> None:
        self._transport = transport if transport is not None else make_transport("inproc")
        self.reports = reports if reports is not None else Tally()
        self._turns = TurnScheduler(seed) if deterministic else None
        self.scheduler: Scheduler = self._turns or FreeScheduler()
        self._nodes: dict[str, Node] = {}
        self.cells: dict[str, Cell] = {}
        self.undelivered = self.in_doubt = 0
        self._failure: ActorFailed | None = None
        self._quiet = False
        self._stopped: Event | None = None
        self._patience = STOP_SECONDS
        self.final_states: dict[str, State] = {}
        """Once stopped: every actor's state after draining and before `on_stop`."""
        self.supervisor = Supervisor(groups, self.scheduler, seed, self._restarted, self._fail)
        for spec in specs:
            self._add(spec, (states or {}).get(spec.name))
        self.supervisor.cells = list(self.cells.values())
        for node in self._nodes.values():
            self._transport.open(node.name, node)
        wire(self.cells, self._link)

    def _add(self, spec: ActorSpec, state: State | None) -> None:
        cell = Cell(spec, self.scheduler, self.reports, self.supervisor.life_ended)
        cell.snapshot = state
        self.cells[spec.name] = cell
        self._nodes.setdefault(spec.node, Node(spec.node)).cells[spec.name] = cell

    def _link(self, sender: Cell, target: Cell, carries: Sequence[type[Message]]) -> Link:
        inbox = self._transport.route(sender.spec.node, target.spec.node)
        bounds = target.spec.mailbox

        def dead(letter: DeadLetter, asked: bool) -> None:
            self._dead_letter(letter)
            if not asked:
                sender.note_dead_letter(letter)

        link = Link(sender.name, target.name, carries, inbox, bounds, self.scheduler, dead)
        sender.links.append(link)
        return link

    # Life.

    async def __aenter__(self) -> Self:
        self.scheduler.begin()
        self._nursery = anyio.create_task_group()
        await self._nursery.__aenter__()
        self.supervisor.nursery = self._nursery
        if self._turns is None:
            self._nursery.start_soon(Watchdog().watch)
        try:
            await self._in_turn(self._start)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def _start(self) -> None:
        order = StartOrder()
        for cell in self.cells.values():
            cell.follow(order)
        for cell in self.cells.values():
            await cell.start(self._nursery, order)
            await cell.ready.wait()
            if self._failure is not None:
                await self.scheduler.event().wait()  # the stop under way cancels it
        for cell in self.cells.values():
            cell.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            await self.stop()
        finally:
            for cell in self.cells.values():
                cell.kill()
            self._nursery.cancel_scope.cancel()
            cancelled = isinstance(error, anyio.get_cancelled_exc_class())
            given = (kind, error, traceback) if cancelled else (None, None, None)  # others stay ungrouped
            swallowed = await self._nursery.__aexit__(*given)
        if self._failure is not None and (error is None or swallowed or isinstance(error, ActorDied)):
            raise self._failure
        return swallowed and cancelled

    async def _in_turn(self, function: Callable[[], Awaitable[None]]) -> None:
        """Do what concerns all actors, in order with what they do themselves."""
        if self._turns is not None:
            self._turns.go_on()
        await self.scheduler.take_part("system", function)

    async def _restarted(self, cell: Cell) -> None:
        """Give a fresh actor the newest of what its publishers have sent."""
        for feed in cell.definition.ports.values():
            if feed.kind == "feed":
                for name in cell.spec.ports.get(feed.name, ()):
                    publisher = self.cells[name]
                    for port in publisher.definition.ports.values():
                        if port.kind == "topic":
                            await publisher.ports[port.name].repeat(cell.name)

    def _fail(self, failure: ActorFailed) -> None:
        if self._failure is None:
            self._failure = failure
            self.scheduler.spawn(self._nursery, "system", self._stop_and_leave)

    async def _stop_and_leave(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()
        self._nursery.cancel_scope.cancel()

    # Stopping.

    def hold(self) -> None:
        """In a deterministic run, give no more turns until `stop`: call it where the run ends."""
        if self._turns is not None:
            self._turns.hold()

    async def quiesce(self) -> None:
        """Cancel the actors' own loops and handle what is left, for at most a second and a half.

        Not cut short by cancelling.
        """
        if not self._quiet:
            self._quiet = self.supervisor.stopping = True
            await self._in_turn(self._quiesce)

    async def _quiesce(self) -> None:
        for cell in self.cells.values():
            cell.stop_run()
        began = anyio.current_time()
        with anyio.move_on_after(DRAIN_SECONDS, shield=True) as scope:
            while busy := [cell for cell in self.cells.values() if cell.alive and not cell.idle]:
                await busy[0].drained()
        if scope.cancelled_caught:
            names = ", ".join(cell.name for cell in busy)
            log.warning("stopping: not drained within %g s, still busy: %s", DRAIN_SECONDS, names)
        self._patience -= anyio.current_time() - began

    async def stop(self) -> None:
        """Stop all actors in order: loops, drain, then `on_stop` from the last to the first.

        Returns when that is over, whoever began it. Not cut short by cancelling.
        """
        with anyio.CancelScope(shield=True):
            if self._stopped is not None:
                await self._stopped.wait()
                return
            self._stopped = self.scheduler.event()
            try:
                await self._in_turn(self._stop)
            finally:
                self._stopped.set()
                await self._transport.close()

    async def _stop(self) -> None:
        await self.quiesce()
        self.final_states = await self._states(busy=False)
        deadline = anyio.current_time() + self._patience
        for cell in reversed(self.cells.values()):
            # Half of what is left, so that one that hangs leaves time to those before it.
            with anyio.move_on_after((deadline - anyio.current_time()) / 2) as scope:
                await cell.halt()
            if scope.cancelled_caught:
                log.warning("stopping: %s did not end in time and was cut short in %s", cell.name, cell.doing)
            if not cell.buried:
                cell.bury("the run has stopped")

    async def states(self) -> dict[str, State]:
        """Every actor's state, each taken between two of its handlers."""
        return await self._states(busy=True)

    async def _states(self, busy: bool) -> dict[str, State]:
        """Of an actor that is at a message, wait for its end if `busy`, or else take its last snapshot."""
        found = {}
        for name, cell in self.cells.items():
            found[name] = await cell.take_state() if busy or cell.idle else cell.snapshot
        return {name: state for name, state in found.items() if state}

    # From outside.

    def ref(self, name: str) -> Ref[Any]:
        """A ref to one actor, for the application outside. Raises KeyError naming the actors there are."""
        cell = self.cells.get(name)
        if cell is None:
            raise KeyError(f"no actor {name!r}; there are {', '.join(self.cells)}")
        node = self._nodes[cell.spec.node].name
        inbox = self._transport.route(node, node)
        carries = list(cell.definition.handlers)
        dead = self._dead_letter_outside
        return Ref(Link(OUTSIDE, name, carries, inbox, cell.spec.mailbox, self.scheduler, dead))

    def group(self, name: str) -> Group[Any]:
        """The members of an actor declared with a count."""
        members = [cell.name for cell in self.cells.values() if cell.name.rpartition(".")[0] == name]
        if not members:
            raise KeyError(f"no group {name!r}")
        return Group([self.ref(member) for member in members])

    def statistics(self) -> SystemStatistics:
        return SystemStatistics(
            actors=tuple(cell.statistics() for cell in self.cells.values()),
            undelivered=self.undelivered,
            in_doubt=self.in_doubt,
        )

    # Dead letters.

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

    def _dead_letter_outside(self, dead: DeadLetter, asked: bool) -> None:
        self._dead_letter(dead)


__all__ = ["MailboxBounds", "System"]
