"""The agent on a host that joins a run: starts the nodes it is assigned and forwards commands and events."""

from __future__ import annotations

import logging
import os
import socket
import tomllib
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import SocketAttribute, SocketStream, TaskGroup
from anyio.streams.tls import TLSStream

from actorq.actors import ActorqError, Membership, NodeDied, find_transport
from actorq.actors.supervision.control_messages import Listening
from actorq.actors.wire.tls import SERVER_NAME
from actorq.launchers.control_stream import ControlStream, FrameError
from actorq.launchers.log_forwarding import Forwarding
from actorq.launchers.node_setup import RunSetup
from actorq.launchers.process.launcher import ProcessLauncher, ProcessNode
from actorq.launchers.socket_folder import private_folder
from actorq.topology import Plan, TopologyError, check
from actorq.topology.address import Address
from actorq.topology.check.nodes import network
from actorq.topology.check.problems import Problems
from actorq.topology.check.tables import add_reported

from .handshake import HandshakeError, introduce
from .host_protocol import (
    CLOSING_SECONDS,
    HEARTBEAT_SECONDS,
    LOST,
    EndNode,
    Heartbeat,
    HostConnection,
    HostLeaving,
    HostReady,
    JoinAccepted,
    LaunchNode,
    NodeEnded,
    RunEnded,
    ToHost,
    anywhere,
    give_up_in_time,
    is_certificate_error,
)
from .join_token import JoinToken

log = logging.getLogger("actorq.launchers")

CONNECT_SECONDS = 10.0
RETURN_SECONDS = 60.0
"""Time limit for reconnecting to a run whose connection was lost, while its host can't be reached."""


class JoinError(ActorqError):
    """This host can't join the run, or the run that it joined has failed."""


async def run_agent(
    join_token: JoinToken, *, address: Address, leave: anyio.Event, listen: str | None = None
) -> None:
    """Join the run at `address` and run its nodes, one at a time, until the run has ended.

    Nodes listen at the host name or IP address `listen`, or else at the address by which this host reaches
    the coordinator. A lost connection is established again. When `leave` is set, the coordinator is told and
    the node ends. Raises JoinError if the run refuses this host, can't be reached, or fails; ActorqError if
    this host lacks something. Cancelled, the node's process is killed. Call it in the main thread.
    """
    joined_before = False
    while not leave.is_set():
        stream, connection = await _connect(join_token, address, patient=joined_before)
        try:
            host = listen or stream.extra(SocketAttribute.local_address)[0]
            joined = _JoinedRun(join_token, connection, host)
            over = await joined.serve(leave)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)
        if over is not None and over.failure:
            raise JoinError(f"the run failed: {over.failure}")
        if over is not None:
            return
        if not joined.accepted and not leave.is_set():
            raise JoinError(f"{address} closed the connection: is the join token of this run?")
        joined_before = True
        if not leave.is_set():
            log.warning("the connection to the run at %s was lost: joining again", address)


async def _connect(
    join_token: JoinToken, address: Address, patient: bool
) -> tuple[SocketStream, HostConnection]:
    """An authenticated connection to the coordinator."""
    until = anyio.current_time() + (RETURN_SECONDS if patient else 0)
    pause = HEARTBEAT_SECONDS
    while True:
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                stream = await anyio.connect_tcp(*address)
                try:
                    return stream, await _introduced(stream, join_token)
                except BaseException:
                    await anyio.aclose_forcefully(stream)
                    raise
        except HandshakeError as error:
            raise JoinError(f"{address} refuses this host: {error}") from error
        except LOST as error:
            if is_certificate_error(error):
                reason = (
                    f"{address} and this host have certificates of different runs: is the file of this run?"
                )
                raise JoinError(reason) from error
            if anyio.current_time() >= until or _is_refused(error):
                raise JoinError(f"no run can be joined at {address}: {_cause(error)}") from error
            await anyio.sleep(pause)
            pause = min(2 * pause, CONNECT_SECONDS)


async def _introduced(stream: SocketStream, join_token: JoinToken) -> HostConnection:
    give_up_in_time(stream)
    secured: SocketStream | TLSStream = stream
    if join_token.tls is not None:
        secured = await TLSStream.wrap(
            stream,
            hostname=SERVER_NAME,
            ssl_context=join_token.tls.context(server=False),
            standard_compatible=False,
        )
    connection = HostConnection(secured)
    await introduce(connection, join_token.run, bytes.fromhex(join_token.secret))
    return connection


def _cause(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if isinstance(cause, TimeoutError):
        return "no answer"
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, socket.gaierror):
        return os.strerror(cause.errno)  # asyncio words it differently
    return getattr(cause, "strerror", None) or str(cause) or "the connection was closed"


def _is_refused(error: BaseException) -> bool:
    """Whether the host answered that nothing listens: then the run has ended."""
    return isinstance(error.__cause__, ConnectionRefusedError)


class _JoinedRun:
    """The agent over one connection."""

    def __init__(self, join_token: JoinToken, connection: HostConnection, host: str) -> None:
        self._join_token = join_token
        self._host = host
        self._stream = ControlStream(connection, ToHost)
        self._plan: Plan | None = None
        self._node: ProcessNode | None = None
        self._hosting = anyio.CancelScope()
        self._refusal = ""
        self.accepted = False
        """The coordinator has accepted this host."""

    async def serve(self, leave: anyio.Event) -> RunEnded | None:
        """Execute the coordinator's commands until the run has ended; None if the connection is lost.

        Raises JoinError if this host can't run what it is assigned.
        """
        self._over: RunEnded | None = None
        forwarding = Forwarding(socket.gethostname(), {})
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._stream.serve)
                tasks.start_soon(forwarding.serve, self._stream)
                tasks.start_soon(self._send_heartbeats)
                tasks.start_soon(self._leave_when, leave, tasks)
                with private_folder() as folder:
                    await self._take_part(folder)
                tasks.cancel_scope.cancel()
        finally:
            forwarding.close()
        if self._refusal:
            raise JoinError(self._refusal)
        return self._over

    async def _send_heartbeats(self) -> None:
        while True:
            self._stream.send_soon(Heartbeat())
            await anyio.sleep(HEARTBEAT_SECONDS)

    async def _leave_when(self, leave: anyio.Event, tasks: TaskGroup) -> None:
        await leave.wait()
        await self._announce_leaving("it was interrupted")
        tasks.cancel_scope.cancel()

    async def _announce_leaving(self, reason: str) -> None:
        self._stream.send_soon(HostLeaving(reason))
        with anyio.move_on_after(CLOSING_SECONDS):
            try:
                await self._stream.flush()
            except anyio.BrokenResourceError:
                return

    async def _refuse(self, reason: str) -> None:
        self._refusal = reason
        await self._announce_leaving(reason)

    async def _take_part(self, folder: str) -> None:
        try:
            accepted = await anext(self._stream, None)
            if not isinstance(accepted, JoinAccepted):
                return
            self.accepted = True
            try:
                plan = await anyio.to_thread.run_sync(_check, accepted.topology, abandon_on_cancel=True)
            except TopologyError as error:
                await self._refuse(f"the topology can't run on this host: {error}")
                return
            run = self._run_setup(plan, accepted, folder)
            async with ProcessLauncher(run, ()) as processes, anyio.create_task_group() as tasks:
                log.info("joined the run %s: waiting for a node", plan.topology.name)
                self._stream.send_soon(HostReady())
                await self._serve(plan, processes, tasks)
                tasks.cancel_scope.cancel()
        except FrameError as error:
            log.error("a message of the run can't be decoded: %s", error)

    def _run_setup(self, plan: Plan, enter: JoinAccepted, folder: str) -> RunSetup:
        transport = network(plan)
        assert transport is not None
        membership = Membership(
            run=self._join_token.run,
            secret=bytes.fromhex(self._join_token.secret),
            folder=folder,
            addresses=(anywhere(self._host, self._join_token.tls),),
            tls=self._join_token.tls,
        )
        return RunSetup(
            specs=plan.specs,
            transport=find_transport(transport),
            membership=membership,
            backend=enter.backend,
        )

    async def _serve(self, plan: Plan, processes: ProcessLauncher, tasks: TaskGroup) -> None:
        async for message in self._stream:
            match message:
                case RunEnded():
                    self._over = message
                    return
                case LaunchNode():
                    self._hosting = anyio.CancelScope()
                    lacks = await anyio.to_thread.run_sync(_lacks, plan, message.node)
                    if lacks:
                        await self._refuse(f"node {message.node} can't run on this host: {lacks}")
                        return
                    tasks.start_soon(self._run_node, processes, message, self._hosting)
                case EndNode():
                    self._hosting.cancel()
                case JoinAccepted():
                    pass
                case _:
                    if self._node is not None:
                        self._node.post(message)

    async def _run_node(
        self, processes: ProcessLauncher, launch: LaunchNode, scope: anyio.CancelScope
    ) -> None:
        """Run one node, from its launch to its end."""
        died = NodeEnded("was ended by the coordinator", None)
        with scope:
            died = await self._launch_and_follow(processes, launch)
        self._stream.send_soon(died)
        self._stream.send_soon(HostReady())

    async def _launch_and_follow(self, processes: ProcessLauncher, launch: LaunchNode) -> NodeEnded:
        try:
            node = self._node = await processes.launch(processes.run.node(launch.node, launch.incarnation))
        except NodeDied as error:
            return NodeEnded(str(error), None)
        try:
            self._stream.send_soon(Listening(node.peer))
            async for node_event in node.node_events():
                self._stream.send_soon(node_event)
            death = await node.ended()
        finally:
            self._node = None
            with anyio.CancelScope(shield=True):
                await node.aclose()
        return NodeEnded(death.reason, death.page)


def _check(topology: str) -> Plan:
    """Check the topology as if its file were in this working directory. Raises TopologyError."""
    tables = tomllib.loads(topology)
    tables["python_path"] = [str(Path.cwd()), *tables.get("python_path", [])]
    return check(tables)


def _lacks(plan: Plan, node: str) -> str:
    """What this machine lacks to run the node's actors; "" if nothing."""
    problems = Problems()
    for spec in plan.specs:
        if spec.node == node:
            where = f"actors.{spec.name}"
            tell = partial(spec.cls.machine_problems, spec.config, spec.tables)
            add_reported(tell, lambda key, where=where: f"{where}.{key}", where, problems)  # type: ignore[misc]
    return "; ".join(map(str, problems.found()))
