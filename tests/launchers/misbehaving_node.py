"""A malicious node that knows the secret and is known to all others: the test acts as its process."""

from __future__ import annotations

import os
import random
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute, TaskStatus
from anyio.streams.tls import TLSStream

from actorq.actors import ActorSpec, Death, LinkSchema, Membership, Peer
from actorq.actors.message import Message
from actorq.actors.runtime.envelope import Envelope
from actorq.actors.supervision import control_messages as commands
from actorq.actors.wire.codec import Answers, Packer, Unpacker
from actorq.actors.wire.registry import WireError
from actorq.actors.wire.session.frame_header import HEADS, HELLO, PREFIX, PROTOCOL, WELCOME, Kind
from actorq.actors.wire.session.handshake import (
    SessionHello,
    SessionWelcome,
    open_hello,
    open_welcome,
    seal_hello,
    seal_welcome,
)
from actorq.actors.wire.tls import SERVER_NAME, Tls
from actorq.actors.wire.transport import this_host

from .unauthenticated_peers import GREETING, framed

NAME = "malicious"
LISTENER_GREETING = b"\0SP\0\0\x51\0\0"
"""What a Pull0 socket sends first."""


class MaliciousNode:
    """A NodeHandle whose node obeys every command, and a peer that sends what the test tells it to."""

    peer: Peer

    def __init__(self, specs: Mapping[str, ActorSpec], membership: Membership, scheme: str) -> None:
        self._specs = specs
        self._membership = membership
        self._scheme = scheme
        self._peers: dict[str, Peer] = {}
        self._tell, self._told = anyio.create_memory_object_stream[Any](1000)
        self._ended = anyio.Event()
        self._news = anyio.Event()
        self._hellos: defaultdict[str, dict[Kind, SessionHello]] = defaultdict(dict)
        self._tickets: dict[tuple[str, int], int] = {}
        self._connections = 0

    def launched(self, incarnation: int) -> None:
        self.peer = Peer(NAME, incarnation, (self._address,), this_host(), os.getpid())

    # As the coordinator sees it.

    def post(self, order: commands.Commands) -> None:
        match order:
            case commands.PeerUp(peers):
                self._peers.update({peer.name: peer for peer in peers})
            case commands.Start(actor):
                self._tell.send_nowait(commands.Up(actor))
            case commands.HaltActor(actor) | commands.Kill(actor):
                self._tell.send_nowait(commands.ActorEnded(actor, told_to_end=True))
            case commands.Answer(number) | commands.AwaitQuiet(number):
                self._tell.send_nowait(commands.Done(number, 0))
            case commands.TakeState(number):
                self._tell.send_nowait(commands.Done(number))
            case commands.LeaveRun():
                self._leave()

    def node_events(self) -> AsyncIterator[commands.NodeEvents]:
        return self._told

    async def ended(self) -> Death:
        await self._ended.wait()
        return Death("left", None)

    async def aclose(self) -> None:
        self._leave()
        self._told.close()

    def _leave(self) -> None:
        self._tell.close()
        self._ended.set()

    # As a peer that others dial.

    async def listen(self, *, task_status: TaskStatus[None]) -> None:
        if self._scheme == "ipc":
            path = f"{self._membership.folder}/{NAME}"
            listener: Any = await anyio.create_unix_listener(path)
            self._address = f"ipc://{path}"
        else:
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            port = listener.extra(SocketAttribute.local_port)
            self._address = f"{self._scheme}://127.0.0.1:{port}"
        async with listener:
            task_status.started()
            await listener.serve(self._serve)

    async def _serve(self, connection: ByteStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError):
            async with connection:
                stream = await self._guarded(connection, server=True)
                await stream.send(LISTENER_GREETING)
                buffer = b""
                while True:
                    buffer += await stream.receive()
                    buffer = self._take(buffer)

    def _take(self, buffer: bytes) -> bytes:
        """Apply all whole frames of `buffer`; return the rest."""
        if buffer.startswith(b"\0SP"):
            if len(buffer) < len(GREETING):
                return buffer
            buffer = buffer[len(GREETING) :]
        start = len(framed(self._scheme, 0))
        while len(buffer) >= start:
            end = start + int.from_bytes(buffer[start - 8 : start], "big")
            if len(buffer) < end:
                break
            self._apply(memoryview(buffer[start:end]))
            buffer = buffer[end:]
        return buffer

    def _apply(self, frame: memoryview) -> None:
        head = PREFIX.unpack_from(frame)[0]
        if head == HELLO:
            hello = open_hello(frame, self._membership.secret)
            assert hello is not None
            self._hellos[hello.sender][hello.kind] = hello
        elif head == WELCOME:
            welcome = open_welcome(frame, self._membership.secret)
            assert welcome is not None
            self._tickets[welcome.hello.receiver, welcome.hello.connection] = welcome.ticket
        self._news.set()
        self._news = anyio.Event()

    async def _until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(50):
            while not condition():
                await self._news.wait()

    # As a peer that dials others.

    async def connect(self, node: str) -> None:
        """Welcome the node's connections, so that it keeps them."""
        async with AsyncExitStack() as stack:
            stream, _ = await self._authenticate(stack, node, Kind.ANSWERS)
            await self._until(lambda: len(self._hellos[node]) == len(Kind))
            for hello in self._hellos[node].values():
                welcome = seal_welcome(
                    SessionWelcome(hello=hello, received=0, ticket=7), self._membership.secret
                )
                await stream.send(framed(self._scheme, len(welcome)) + welcome)
            # The node answers the second with an acknowledgement; only a bad frame ends it.
            await self._send_until_closed(stream, b"done")

    async def send(self, node: str, kind: Kind, make: Callable[[int], bytes]) -> None:
        """Authenticate, and send what `make` returns for the ticket; the node closes the connection."""
        async with AsyncExitStack() as stack:
            stream, connection = await self._authenticate(stack, node, kind)
            await self._until(lambda: (node, connection) in self._tickets)
            await self._send_until_closed(stream, make(self._tickets.pop((node, connection))))

    async def _authenticate(self, stack: AsyncExitStack, node: str, kind: Kind) -> tuple[ByteStream, int]:
        stream = await stack.enter_async_context(await self._dial(self._peers[node].addresses))
        self._connections += 1
        link_schema = LinkSchema(self._specs, NAME, node, self.peer.incarnation)
        hello = SessionHello(
            protocol=PROTOCOL,
            run=self._membership.run,
            sender=NAME,
            receiver=node,
            sender_incarnation=self.peer.incarnation,
            receiver_incarnation=self._peers[node].incarnation,
            kind=kind,
            connection=self._connections,
            route_table=link_schema.digest,
        )
        sealed = seal_hello(hello, self._membership.secret)
        await stream.send(GREETING + framed(self._scheme, len(sealed)) + sealed)
        return stream, self._connections

    async def _send_until_closed(self, stream: ByteStream, frame: bytes) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError):
            await stream.send(framed(self._scheme, len(frame)) + frame)
            while True:
                await stream.receive()

    async def _dial(self, addresses: tuple[str, ...]) -> ByteStream:
        address = next(each for each in addresses if each.startswith(f"{self._scheme}://"))
        rest = address.partition("://")[2]
        if self._scheme == "ipc":
            return await anyio.connect_unix(rest)
        host, _, port = rest.rpartition(":")
        return await self._guarded(await anyio.connect_tcp(host, int(port)), server=False)

    async def _guarded(self, stream: ByteStream, *, server: bool) -> ByteStream:
        tls = self._membership.tls
        if self._scheme != "tls+tcp":
            return stream
        assert isinstance(tls, Tls)
        return await TLSStream.wrap(
            stream,
            server_side=server,
            hostname=None if server else SERVER_NAME,
            ssl_context=tls.context(server=server),
            standard_compatible=False,
        )


class CorruptFrames:
    """Invalid frames, made by changing valid ones."""

    def __init__(self, link_schema: LinkSchema, message: Message, chance: random.Random) -> None:
        self._link_schema = link_schema
        self._chance = chance
        route = next(route for route in link_schema.out.routes if route.message is type(message))
        nobody: Any = None
        envelopes = [Envelope(message, 100, route.sender, route.target, nobody, ())] * 3
        self._true = {
            Kind.ENVELOPES: b"".join(Packer().envelopes(link_schema.out, 1, envelopes)),
            Kind.ANSWERS: b"".join(Packer().answers(Answers(handled=[1, 1], freed=[64]))),
        }

    def frame(self, kind: Kind, ticket: int) -> bytes:
        chance = self._chance
        prefix = [HEADS[kind], ticket, 1, 0, 0]
        body = bytearray(self._true[kind])
        how = chance.randrange(5)
        if how == 0:
            return chance.randbytes(chance.randrange(3000))
        if how == 1:  # an invalid field in the prefix
            at = chance.randrange(len(prefix))
            prefix[at] ^= 1 << chance.randrange(1, 32)
        elif how == 2:
            body = bytearray(chance.randbytes(chance.randrange(3000)))
        elif how == 3:
            del body[chance.randrange(len(body)) :]
        else:
            body = self._flipped(kind)
        return PREFIX.pack(*prefix) + body

    def _flipped(self, kind: Kind) -> bytearray:
        """A body with bits flipped until decoding refuses it.

        Hardly ever the same twice: a node ends if the same frame is refused again and again.
        """
        body = bytearray(self._true[kind])
        flips = 0
        while flips < 3 or not self._refused(kind, body):
            body[self._chance.randrange(len(body))] ^= 1 << self._chance.randrange(8)
            flips += 1
        return body

    def _refused(self, kind: Kind, body: bytearray) -> bool:
        try:
            if kind is Kind.ENVELOPES:
                Unpacker().envelopes(self._link_schema.out, memoryview(bytes(body)))
            else:
                answers = Unpacker().answers(memoryview(bytes(body)), lambda number: ())
                return any(answers.handled[1::2])  # nothing was sent that could be handled
        except WireError:
            return True
        return False
