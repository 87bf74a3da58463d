"""The actor test worlds: transport, number of nodes and event loop of a test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import anyio

from actorq.actors import Actor, ActorSpec, Config, GroupSpec, Membership, RestartLimits, System, Transport
from actorq.actors.wire.transport import make_transport
from actorq.testing import EncodedTransport
from actorq_nng import NngTransport

A = TypeVar("A", bound=Actor)

TRANSPORTS: dict[str, Callable[[], Transport]] = {
    "inproc": lambda: make_transport("inproc"),
    "encoded": EncodedTransport,
    "nng-ipc": NngTransport,
    "nng-tcp": lambda: NngTransport(ipc=False),
}

AT_ONCE = (GroupSpec(limits=RestartLimits(backoff_seconds=0.0)),)
"""Crashed actors are started again without a pause."""


def spec(
    name: str,
    cls: type[Actor],
    ports: Mapping[str, str | tuple[str, ...]] | None = None,
    config: Config | None = None,
    **rest: Any,
) -> ActorSpec:
    """An actor, its ports wired by name, its settings the defaults of its class."""
    wired = {port: (to,) if isinstance(to, str) else to for port, to in (ports or {}).items()}
    return ActorSpec(name=name, cls=cls, ports=wired, config=config or cls.Config(), **rest)


def fresh(cls: type[A], **values: Any) -> type[A]:
    """A class for one test alone, with values of its own, such as a record that the test reads."""
    made: type[A] = type(cls.__name__, (cls,), values)
    return made


async def all_blocked() -> None:
    """`anyio.wait_all_tasks_blocked`, beside an actors' system.

    On asyncio that looks ten times a second, and as often the watchdog ticks. Where the two fall into step,
    every look finds the watchdog just woken: so looking begins anew now and then, out of step.
    """
    while True:
        with anyio.move_on_after(0.25):
            await anyio.wait_all_tasks_blocked()
            return


@dataclass(frozen=True)
class World:
    """Where actors run: over which transport, on how many nodes."""

    transport: Callable[[], Transport]
    nodes: int

    @property
    def crosses_processes(self) -> bool:
        """Whether what is sent takes its time, as between processes."""
        return self.transport().crosses_processes

    def system(self, *specs: ActorSpec, groups: Sequence[GroupSpec] = AT_ONCE, **rest: Any) -> System:
        placed = [replace(each, node=f"node{i % self.nodes}") for i, each in enumerate(specs)]
        transport = self.transport()
        listen = ("tcp://127.0.0.1:0",) if transport.crosses_processes else ()
        return System(placed, groups, transport=transport, membership=Membership(addresses=listen), **rest)

    async def still(self, system: System) -> None:
        """Return when nothing more happens by itself: all that was sent has arrived, and every task waits."""
        transport = system._local.transport
        if not isinstance(transport, NngTransport):
            await all_blocked()
            return
        # Tasks that wait say nothing of frames in sockets, nor the other way round. Both are still when all
        # frames have arrived, then all tasks wait, and no frame was sent in between.
        before = -1
        while before != (sent := _frames_sent(transport)):
            before = sent
            for station in transport._nodes.values():
                for session in list(station.endpoint._sessions.values()):
                    for stream in (session.envelopes, session.answers):
                        await stream.drained()
            await all_blocked()


def _frames_sent(transport: NngTransport) -> int:
    return sum(station.endpoint.statistics().frames_out for station in transport._nodes.values())
