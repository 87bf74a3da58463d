"""Set of launchers of a run: one for each `place` of its nodes, entered together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from actorq.actors import Membership, NodeHandle, find_transport
from actorq.actors.spec import MAIN
from actorq.topology import Plan, to_toml
from actorq.topology.address import parse_address
from actorq.topology.check.launchers import find_launcher
from actorq.topology.check.nodes import is_elsewhere, is_on_network, network
from actorq.topology.schema import Backend

from .host.certificates import make_certificates
from .host.host_protocol import anywhere
from .launcher import NodeLauncher
from .node_setup import RunSetup
from .socket_folder import private_folder


@asynccontextmanager
async def other_processes(
    plan: Plan, *, backend: Backend, join_token: Path | None
) -> AsyncIterator[dict[str, Any]]:
    """The arguments of a System for nodes outside the caller's process; none if there are no such nodes.

    `join_token`: the file to write for joining hosts, if nodes run on them. Leaving the context ends all
    processes; after an error, joined hosts are told so. Raises NodeFailed and ActorqError.
    """
    transport = network(plan)
    if transport is None:
        yield {}
        return
    elsewhere = [node for node in plan.nodes if is_elsewhere(node)]
    async with AsyncExitStack() as stack:
        make = find_transport(transport)
        run = RunSetup(
            specs=plan.specs,
            transport=make,
            membership=Membership(folder=stack.enter_context(private_folder())),
            backend=backend,
            local_nodes=sum(not is_on_network(node) for node in elsewhere),
            join_token=join_token,
        )
        if any(map(is_on_network, elsewhere)):
            run = _on_network(run, plan)
        launchers: dict[str, NodeLauncher] = {}
        for place in dict.fromkeys(node.place for node in elsewhere):
            nodes = [node for node in elsewhere if node.place == place]
            launcher = cast(type[NodeLauncher], find_launcher(place))(run, nodes)
            launchers |= dict.fromkeys(launcher.nodes, await stack.enter_async_context(launcher))
        yield {
            "transport": make(),
            "membership": run.membership,
            "elsewhere": list(launchers),
            "launcher": LaunchersByNode(run, launchers),
            "direct": True,
        }


def _on_network(run: RunSetup, plan: Plan) -> RunSetup:
    """The run with the settings for nodes on other machines: main's address, TLS, the topology as text."""
    main = plan.topology.nodes[MAIN]
    assert main.address is not None
    address = parse_address(main.address)
    tls = None if main.insecure else make_certificates()
    membership = replace(run.membership, addresses=(anywhere(address.host, tls),), tls=tls)
    return replace(run, membership=membership, address=address, topology=to_toml(plan.topology))


class LaunchersByNode:
    """Passes each node's setup to the node's launcher."""

    def __init__(self, run: RunSetup, launchers: Mapping[str, NodeLauncher]) -> None:
        """`launchers`: by node name."""
        self.launchers = launchers
        self._run = run

    async def launch(self, node: str, incarnation: int) -> NodeHandle:
        """See Launcher."""
        return await self.launchers[node].launch(self._run.node(node, incarnation))
