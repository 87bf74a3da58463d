"""The launcher `host`, at the coordinator: listens for hosts that join, and assigns nodes to them."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from actorq.actors import NodeFailed
from actorq.launchers.launcher import NodeLauncher
from actorq.launchers.node_setup import NodeSetup, RunSetup
from actorq.topology import NodeSpec
from actorq.topology.address import Address, bracketed

from .handshake import HandshakeError, admit
from .host_protocol import (
    CLOSING_SECONDS,
    LOST,
    HostConnection,
    JoinAccepted,
    RunEnded,
    give_up_in_time,
    is_certificate_error,
)
from .host_session import HostLost, HostNode, HostSession
from .join_token import JoinToken, write_join_token

log = logging.getLogger("actorq.launchers")

AUTHENTICATION_SECONDS = 5.0
"""Time limit for TLS and handshake of a new connection."""
MAX_UNAUTHENTICATED = 64
"""Connections in their handshake at a time; more are closed at once."""
MAX_LOGGED_REFUSALS = 20
"""Distinct reasons for refused connections that are logged; all refusals are counted."""


class HostLauncher(NodeLauncher):
    """Launches nodes on the hosts that join. Use it as an async context manager.

    While it is open, `join_token` is the path of the file that a host needs to join. A host without a node,
    if there are more hosts than nodes, waits until one is lost. Leaving it tells all hosts that the run has
    ended; after an error, that it failed.
    """

    on_network = True
    needs_importable = True

    def __init__(self, run: RunSetup, nodes: Sequence[NodeSpec]) -> None:
        super().__init__(run, nodes)
        if run.join_token is None or run.address is None:
            raise ValueError("nodes run on joining hosts: name a file for the join token")
        self._enter = JoinAccepted(run.topology, run.backend)
        self._address = run.address
        self._join_token = run.join_token
        self._membership = run.membership
        tls = run.membership.tls
        self._context = tls.context(server=True) if tls is not None else None
        self._unauthenticated = 0
        self._host_sessions: set[HostSession] = set()
        self._no_sessions = anyio.Event()
        self._logged_refusals: set[str] = set()
        self._launched: set[str] = set()
        self.refused_connections = 0
        """Number of connections that failed the handshake."""

    async def __aenter__(self) -> Self:
        """Raises NodeFailed if it can't listen or write the join token."""
        host, port = self._address
        try:
            self._listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
        except OSError as error:
            raise NodeFailed("main", f"can't listen at {self._address}: {error.strerror or error}") from error
        self._address = Address(host, self._listener.extra(SocketAttribute.local_port))
        try:
            self._write_join_token()
        except OSError as error:
            await self._listener.aclose()
            raise NodeFailed("main", f"{self._join_token}: can't be written: {error.strerror}") from error
        self._add_free, self._free = anyio.create_memory_object_stream[HostSession](math.inf)
        self._accepting = anyio.CancelScope()
        await super().__aenter__()
        self.tasks.start_soon(self._accept)
        log.info("waiting for %d node%s: %s", len(self.nodes), "s" * (len(self.nodes) > 1), self.join_command)
        return self

    def _write_join_token(self) -> None:
        join_token = JoinToken(
            run=self._membership.run,
            address=str(self._address),
            secret=self._membership.secret.hex(),
            tls=self._membership.tls,
        )
        write_join_token(self._join_token, join_token)

    @property
    def join_command(self) -> str:
        """The shell command by which another machine joins; it needs a copy of the join token's file."""
        return f"actorq node --join {self._address} --secret {shlex.quote(str(self._join_token))}"

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._accepting.cancel()
        failure = str(error) or type(error).__name__ if isinstance(error, Exception) else ""
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            await self._end_sessions(RunEnded(failure))
        for host_session in self._host_sessions:
            host_session.close()
        self._join_token.unlink(missing_ok=True)
        try:
            return await super().__aexit__(kind, error, traceback)
        finally:
            self._add_free.close()
            self._free.close()

    async def _end_sessions(self, over: RunEnded) -> None:
        """Send the last message, and wait for the hosts to close: closing here first could lose it unread."""
        for host_session in self._host_sessions:
            host_session.stream.send_soon(over)
        while self._host_sessions:
            self._no_sessions = anyio.Event()
            await self._no_sessions.wait()

    # Nodes.

    async def launch(self, setup: NodeSetup) -> HostNode:
        """See NodeLauncher. Waits for a host to join, without a limit."""
        node, incarnation = setup.node, setup.membership.incarnation
        while True:
            host_session = await self._free_host_session(node)
            try:
                launched = await host_session.launch(node, incarnation)
            except HostLost as lost:
                log.warning("node %s was not started: %s", node, lost)
                continue
            log.info("node %s is at %s", node, host_session.where)
            self._launched.add(node)
            return launched

    async def _free_host_session(self, node: str) -> HostSession:
        host_session: HostSession | None = None
        while host_session is None or not host_session.is_free:
            try:
                host_session = self._free.receive_nowait()
            except anyio.WouldBlock:
                if node in self._launched:
                    self._launched.discard(node)  # logged once
                    log.warning("waiting for node %s: %s", node, self.join_command)
                host_session = await self._free.receive()
        return host_session

    # Hosts.

    async def _accept(self) -> None:
        with self._accepting:
            async with self._listener:
                await self._listener.serve(self._serve_connection, self.tasks)

    async def _serve_connection(self, stream: SocketStream) -> None:
        """Authenticate one connection and serve it until it is closed."""
        connection: HostConnection | None = None
        try:
            if self._unauthenticated < MAX_UNAUTHENTICATED:
                connection = await self._authenticate(stream)
            if connection is None:
                self.refused_connections += 1
            else:
                await self._serve_session(HostSession(_name(stream), connection, self._add_free_session))
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)

    async def _authenticate(self, stream: SocketStream) -> HostConnection | None:
        self._unauthenticated += 1
        try:
            with anyio.move_on_after(AUTHENTICATION_SECONDS):
                give_up_in_time(stream)
                connection = HostConnection(await self._secured(stream))
                await admit(connection, self._membership.run, self._membership.secret)
                return connection
            self._log_refusal("no handshake in time", stream)
        except HandshakeError as error:
            self._log_refusal(str(error), stream)
        except LOST as error:
            why = "has no certificate of this run" if is_certificate_error(error) else "broke off"
            self._log_refusal(why, stream)
        finally:
            self._unauthenticated -= 1
        return None

    async def _secured(self, stream: SocketStream) -> SocketStream | TLSStream:
        if self._context is None:
            return stream
        return await TLSStream.wrap(
            stream, server_side=True, ssl_context=self._context, standard_compatible=False
        )

    def _log_refusal(self, sentence: str, stream: SocketStream) -> None:
        if sentence not in self._logged_refusals and len(self._logged_refusals) < MAX_LOGGED_REFUSALS:
            self._logged_refusals.add(sentence)
            log.warning("refused a connection from %s: %s", _name(stream), sentence)

    async def _serve_session(self, host_session: HostSession) -> None:
        self._host_sessions.add(host_session)
        try:
            host_session.stream.send_soon(self._enter)
            await host_session.serve()
        finally:
            self._host_sessions.discard(host_session)
            if not self._host_sessions:
                self._no_sessions.set()

    def _add_free_session(self, host_session: HostSession) -> None:
        """Called by a session whose host can take a node."""
        self._add_free.send_nowait(host_session)


def _name(stream: SocketStream) -> str:
    try:
        remote = stream.extra(SocketAttribute.remote_address)
    except (anyio.TypedAttributeLookupError, OSError):  # it has ended already
        return "a host that is gone"
    return f"{bracketed(str(remote[0]))}:{remote[1]}"
