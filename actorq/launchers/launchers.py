"""The nodes of a run that are in other processes, each started by whoever starts those of its place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from actorq.actors import Launcher, Membership, NodeHandle, find_transport
from actorq.topology import Plan, to_toml
from actorq.topology.address import parse_address
from actorq.topology.check.nodes import is_elsewhere, network
from actorq.topology.schema import MAIN

from .host.certificates import make_certificates
from .host.host_protocol import anywhere
from .host.launcher import HostLauncher
from .process.launcher import ProcessLauncher
from .socket_folder import PrivateFolder


@asynccontextmanager
async def other_processes(
    plan: Plan, *, backend: Literal["asyncio", "trio"], join_token: Path | None
) -> AsyncIterator[dict[str, Any]]:
    """What a System has to be told of nodes elsewhere; nothing if there are none.

    `join_token`: the file to write for hosts that join, if nodes are for them. Leaving the context ends all
    processes; by an error, joined hosts are told of it. Raises NodeFailed and ActorqError.
    """
    transport = network(plan)
    if transport is None:
        yield {}
        return
    local, joining = (
        [node.name for node in plan.nodes if is_elsewhere(node) and (node.place == "host") is joins]
        for joins in (False, True)
    )
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(PrivateFolder()).path
        membership = Membership(folder=folder)
        launchers: dict[str, Launcher] = {}
        if joining:
            if join_token is None:
                raise ValueError("nodes join from other hosts: say where their invitation is to be written")
            membership = _reachable(plan, membership)
            hosts = _hosts(plan, len(joining), membership, backend, join_token)
            launchers |= dict.fromkeys(joining, await stack.enter_async_context(hosts))
        make = find_transport(transport)
        processes = ProcessLauncher(
            plan.specs, local, transport=make, membership=membership, folder=folder, backend=backend
        )
        launchers |= dict.fromkeys(local, await stack.enter_async_context(processes))
        yield {
            "transport": make(),
            "membership": membership,
            "elsewhere": [*local, *joining],
            "launcher": _ByName(launchers),
            "direct": True,
        }


def _reachable(plan: Plan, membership: Membership) -> Membership:
    """Of a run whose nodes listen on the network, at the interface that main's address names."""
    main = plan.topology.nodes[MAIN]
    assert main.address is not None
    host = parse_address(main.address).host
    tls = None if main.insecure else make_certificates()
    return replace(membership, addresses=(anywhere(host, tls),), tls=tls)


def _hosts(
    plan: Plan, count: int, membership: Membership, backend: Literal["asyncio", "trio"], join_token: Path
) -> HostLauncher:
    address = plan.topology.nodes[MAIN].address
    assert address is not None
    return HostLauncher(
        to_toml(plan.topology),
        address=parse_address(address),
        join_token=join_token,
        membership=membership,
        count=count,
        backend=backend,
    )


class _ByName:
    """Sends each node to its own launcher."""

    def __init__(self, launchers: Mapping[str, Launcher]) -> None:
        self.launchers = launchers

    async def launch(self, node: str, incarnation: int) -> NodeHandle:
        """See Launcher."""
        return await self.launchers[node].launch(node, incarnation)
