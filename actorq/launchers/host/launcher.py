"""Nodes on other hosts, as the coordinator has them: it listens for hosts that join, and gives them nodes."""

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

from .certificates import Certificates
from .handshake import HandshakeError, admit
from .host_protocol import GOODBYE_SECONDS, LOST, Enter, Over, Wire, give_up_in_time, tells_no_certificate
from .host_session import HostLost, HostNode, HostSession
from .join_token import JoinToken, write_join_token

log = logging.getLogger("actorq.launchers")

PROOF_SECONDS = 5.0
"""How long a connection may take to prove itself."""
MOST_UNPROVEN = 64
"""Connections that haven't, at a time; more are closed."""
MOST_COMPLAINTS = 20
"""Different sentences about refused connections that are logged; all are counted."""


class HostLauncher(NodeLauncher):
    """Launches nodes on the hosts that join. Use it as an async context manager.

    While it is entered, `join_token` is the path of the file that a host needs to join. A host that has no
    node, as there are more hosts than nodes, waits for one to be lost. Leaving it tells all hosts that the
    run is over; if by an error, that it failed.
    """

    on_network = True
    needs_importable = True

    def __init__(self, run: RunSetup, nodes: Sequence[NodeSpec]) -> None:
        super().__init__(run, nodes)
        if run.join_token is None or run.address is None:
            raise ValueError("nodes join from other hosts: name the file for the join token")
        self._enter = Enter(run.topology, run.backend)
        self._address = run.address
        self._join_token = run.join_token
        self._membership = run.membership
        tls: Certificates | None = run.membership.tls
        self._context = tls.context(server=True) if tls is not None else None
        self._unproven = 0
        self._host_sessions: set[HostSession] = set()
        self._nobody = anyio.Event()
        self._complaints: set[str] = set()
        self._launched: set[str] = set()
        self.strangers = 0
        """Connections that didn't prove themselves."""

    async def __aenter__(self) -> Self:
        """Raises NodeFailed if it can't listen or write the join token."""
        host, port = self._address
        try:
            self._listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
        except OSError as error:
            raise NodeFailed("main", f"can't listen at {self._address}: {error.strerror or error}") from error
        self._address = Address(host, self._listener.extra(SocketAttribute.local_port))
        try:
            self._invite()
        except OSError as error:
            await self._listener.aclose()
            raise NodeFailed("main", f"{self._join_token}: can't be written: {error.strerror}") from error
        self._offered, self._free = anyio.create_memory_object_stream[HostSession](math.inf)
        self._accepting = anyio.CancelScope()
        await super().__aenter__()
        self.tasks.start_soon(self._accept)
        log.info("waiting for %d node%s: %s", len(self.nodes), "s" * (len(self.nodes) > 1), self.join_command)
        return self

    def _invite(self) -> None:
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
        with anyio.move_on_after(GOODBYE_SECONDS, shield=True):
            await self._say_goodbye(Over(failure))
        for host_session in self._host_sessions:
            host_session.send_away()
        self._join_token.unlink(missing_ok=True)
        try:
            return await super().__aexit__(kind, error, traceback)
        finally:
            self._offered.close()
            self._free.close()

    async def _say_goodbye(self, over: Over) -> None:
        """Closing with something unread in between may cost the hosts the last word: they close first."""
        for host_session in self._host_sessions:
            host_session.stream.send_soon(over)
        while self._host_sessions:
            self._nobody = anyio.Event()
            await self._nobody.wait()

    # Nodes.

    async def launch(self, setup: NodeSetup) -> HostNode:
        """See NodeLauncher. Waits for a host to join, without a limit."""
        node, incarnation = setup.node, setup.incarnation
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
                    self._launched.discard(node)  # said once
                    log.warning("waiting for node %s: %s", node, self.join_command)
                host_session = await self._free.receive()
        return host_session

    # Hosts.

    async def _accept(self) -> None:
        with self._accepting:
            async with self._listener:
                await self._listener.serve(self._greet, self.tasks)

    async def _greet(self, stream: SocketStream) -> None:
        """One connection, as long as it lasts."""
        wire: Wire | None = None
        try:
            if self._unproven < MOST_UNPROVEN:
                wire = await self._prove(stream)
            if wire is None:
                self.strangers += 1
            else:
                await self._have(HostSession(_name(stream), wire, self._offer))
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)

    async def _prove(self, stream: SocketStream) -> Wire | None:
        self._unproven += 1
        try:
            with anyio.move_on_after(PROOF_SECONDS):
                give_up_in_time(stream)
                wire = Wire(await self._secured(stream))
                await admit(wire, self._membership.run, self._membership.secret)
                return wire
            self._complain("said nothing", stream)
        except HandshakeError as error:
            self._complain(str(error), stream)
        except LOST as error:
            why = "has no certificate of this run" if tells_no_certificate(error) else "broke off"
            self._complain(why, stream)
        finally:
            self._unproven -= 1
        return None

    async def _secured(self, stream: SocketStream) -> SocketStream | TLSStream:
        if self._context is None:
            return stream
        return await TLSStream.wrap(
            stream, server_side=True, ssl_context=self._context, standard_compatible=False
        )

    def _complain(self, sentence: str, stream: SocketStream) -> None:
        if sentence not in self._complaints and len(self._complaints) < MOST_COMPLAINTS:
            self._complaints.add(sentence)
            log.warning("refused a connection from %s: %s", _name(stream), sentence)

    async def _have(self, host_session: HostSession) -> None:
        self._host_sessions.add(host_session)
        try:
            host_session.stream.send_soon(self._enter)
            await host_session.stay()
        finally:
            self._host_sessions.discard(host_session)
            if not self._host_sessions:
                self._nobody.set()

    def _offer(self, host_session: HostSession) -> None:
        """It can take a node."""
        self._offered.send_nowait(host_session)


def _name(stream: SocketStream) -> str:
    try:
        remote = stream.extra(SocketAttribute.remote_address)
    except (anyio.TypedAttributeLookupError, OSError):  # it is gone already
        return "a host that is gone"
    return f"{bracketed(str(remote[0]))}:{remote[1]}"
