"""Conformance kit for launchers: the requirements of every launcher, checked with real nodes.

In the tests of a package that offers the launcher `ssh`:

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_contract(backend):
        launcher_contract.check_launcher("ssh", backend, options={"user": "me"})
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio

from actorq import actors
from actorq.actors import Actor, ActorDied, Group, Message, Request, System, handles
from actorq.launchers import NodeLauncher
from actorq.launchers.launchers import other_processes
from actorq.topology import Plan, check
from actorq.topology.check.launchers import find_launcher
from actorq.topology.schema import Backend

TEXT = "é\n"
"""A setting that must arrive unchanged."""


class ProbeStatus(Message):
    pid: int
    restarts: int
    text: str


class GetProbeStatus(Request[ProbeStatus]):
    pass


class ExitProcess(Request[ProbeStatus]):
    """Ends the node's process; never answered."""


class ContractProbe(Actor):
    """Replies about the process it runs in, and asks its peer."""

    class Config(actors.Config):
        text: str = ""

    peers: Group[GetProbeStatus] | None

    @handles
    async def status(self, request: GetProbeStatus) -> ProbeStatus:
        return ProbeStatus(pid=os.getpid(), restarts=self.restarts, text=self.config.text)

    @handles
    async def exit_process(self, request: ExitProcess) -> ProbeStatus:
        os._exit(3)


class ContractProbePeer(ContractProbe):
    """Replies with the reply of the probe on the other node, which shows that both nodes reach each other."""

    @handles
    async def status(self, request: GetProbeStatus) -> ProbeStatus:
        assert self.peers is not None
        return await self.peers.any().ask(request)


def check_launcher(
    place: str,
    backend: Backend,
    *,
    options: Mapping[str, Any] | None = None,
    main: Mapping[str, Any] | None = None,
    join_token: Path | None = None,
    transport: str = "nng",
    timeout_seconds: float = 60.0,
) -> None:
    """Check the installed launcher `place` on a back end. Raises AssertionError naming the violation.

    `options`: its table `[nodes.NODE.PLACE]`; `main`: the table `[nodes.main]`, with an address if the
    launcher is `on_network`; `join_token`: the file for joining hosts, if it needs one. TimeoutError after
    `timeout_seconds` for any part.
    """
    launcher = cast(type[NodeLauncher], find_launcher(place))
    assert issubclass(launcher, NodeLauncher), f"{launcher} is not a subclass of NodeLauncher"
    node = {"place": place, "transport": transport, "count": 2, place: dict(options or {})}
    declared = {
        "probe": {
            "role": ContractProbe,
            "node": "far",
            "count": 2,
            "config": {"text": TEXT},
            "restart": "always",
        },
        "peer": {"role": ContractProbePeer, "node": "far", "ports": {"peers": "probe"}},
    }
    plan = check({"nodes": {"main": dict(main or {}), "far": node}, "actors": declared})
    trial = _Trial(plan, backend, join_token, launcher.on_network)
    for part in (trial.run_nodes, trial.leave_early):
        anyio.run(_within, timeout_seconds, part, backend=backend)


async def _within(seconds: float, part: Callable[[], Awaitable[None]]) -> None:
    with anyio.fail_after(seconds):
        await part()


@dataclass(frozen=True, slots=True)
class _Trial:
    """The parts of the contract, each with a run of its own."""

    plan: Plan
    backend: Backend
    join_token: Path | None
    on_network: bool

    def launched(self) -> AbstractAsyncContextManager[dict[str, Any]]:
        return other_processes(self.plan, backend=self.backend, join_token=self.join_token)

    async def run_nodes(self) -> None:
        """Nodes start and reach each other; one that dies is launched again; all have ended afterwards."""
        async with self.launched() as elsewhere, System(self.plan.specs, **elsewhere) as system:
            found = [await system.ref(name).ask(GetProbeStatus()) for name in ("probe.0", "probe.1", "peer")]
            with suppress(ActorDied):
                await system.ref("probe.0").ask(ExitProcess())
            after = await system.ref("probe.0").ask(GetProbeStatus())
        pids = {status.pid for status in found}
        assert len(pids) == 2, f"two nodes have {len(pids)} processes"
        assert os.getpid() not in pids, "a node runs in the caller's process"
        assert {status.text for status in found} == {TEXT}, "an actor's config has not arrived as it was"
        assert after.pid not in pids, "a node that died was not launched again"
        assert after.restarts == 1, "the actor does not know that it was restarted"
        left = [pid for pid in (*pids, after.pid) if not self.on_network and _exists(pid)]
        assert not left, f"left the processes {left}"

    async def leave_early(self) -> None:
        """A launch can be cancelled; an error is neither swallowed nor put into a group."""
        try:
            async with self.launched() as elsewhere:
                with anyio.move_on_after(0.01):
                    handle = await elsewhere["launcher"].launch("far.0", elsewhere["membership"].incarnation)
                    await handle.aclose()
                raise LookupError
        except LookupError:
            return
        raise AssertionError("the launcher swallows errors")


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
