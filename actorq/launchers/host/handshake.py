"""Handshake of a joining host: coordinator and host prove to each other that they know the run's secret.

Challenge and response: HMAC-SHA256 (RFC 2104) with a label for each direction, over all messages before it,
which include fresh nonces of both ends. So a proof is valid once, for one peer. It is sent inside TLS, where
TLS is used; what follows is protected by TLS alone.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Any, TypeVar

import msgspec
from anyio.abc import ByteStream

from actorq import __version__
from actorq.actors import ActorqError

PROTOCOL = 1
MOST_BYTES = 1024
"""Largest message before authentication: no more is ever allocated for an unauthenticated peer."""

_LENGTH_BYTES = 2
_NONCE_BYTES = 32
_OF_COORDINATOR, _OF_HOST = b"actorq coordinator of a run\0", b"actorq host that joins\0"

_NOT_A_HANDSHAKE = (
    "handshake failed: the peer did not speak the actorq join protocol; does another service use this port?"
)


class HandshakeError(ActorqError):
    """The peer failed the handshake; the text gives the reason."""


class JoinHello(msgspec.Struct, frozen=True, array_like=True):
    """The host's first message. Later protocols only append fields, so that versions can be told apart."""

    protocol: int
    version: str
    run: str
    nonce: bytes


class Challenge(msgspec.Struct, frozen=True, array_like=True):
    """The coordinator's reply, with its proof."""

    protocol: int
    version: str
    nonce: bytes
    proof: bytes


class Proof(msgspec.Struct, frozen=True, array_like=True):
    """The host's proof."""

    proof: bytes


async def introduce(stream: ByteStream, run: str, secret: bytes) -> None:
    """The host's side: return when the coordinator has proven itself and this host's proof is sent.

    Raises HandshakeError with a sentence for the user, and the stream's errors.
    """
    hello = JoinHello(PROTOCOL, __version__, run, secrets.token_bytes(_NONCE_BYTES))
    await _say(stream, hello)
    challenge = await _receive(stream, Challenge)
    _compare(challenge, "the run is coordinated")
    if not hmac.compare_digest(challenge.proof, _coordinator_proof(secret, hello, challenge)):
        raise HandshakeError("the peer doesn't know the run's secret: is the join token of this run?")
    await _say(stream, Proof(_hosts_proof(secret, hello, challenge)))


async def admit(stream: ByteStream, run: str, secret: bytes) -> None:
    """The coordinator's side: return when the host has proven itself. Raises as `introduce` does."""
    hello = await _receive(stream, JoinHello)
    challenge = Challenge(PROTOCOL, __version__, secrets.token_bytes(_NONCE_BYTES), b"")
    proven = msgspec.structs.replace(challenge, proof=_coordinator_proof(secret, hello, challenge))
    await _say(stream, proven)
    _compare(hello, "a host wants to join")
    if hello.run != run:
        raise HandshakeError("a host wants to join another run: its join token is not of this one")
    proof = await _receive(stream, Proof)
    if not hmac.compare_digest(proof.proof, _hosts_proof(secret, hello, proven)):
        raise HandshakeError("a host doesn't know the run's secret")


def _compare(said: JoinHello | Challenge, what: str) -> None:
    """Compare the versions before anything else: nothing more is compatible if they differ."""
    if (said.protocol, said.version) != (PROTOCOL, __version__):
        theirs = said.version if said.version.isprintable() else "unknown version"
        raise HandshakeError(
            f"{what} by actorq {theirs} (protocol {said.protocol}), this is actorq {__version__} "
            f"(protocol {PROTOCOL}): install the same version on both hosts"
        )


def _coordinator_proof(secret: bytes, hello: JoinHello, challenge: Challenge) -> bytes:
    said = msgspec.structs.replace(challenge, proof=b"")
    return hmac.digest(secret, _OF_COORDINATOR + _bytes(hello) + _bytes(said), "sha256")


def _hosts_proof(secret: bytes, hello: JoinHello, challenge: Challenge) -> bytes:
    return hmac.digest(secret, _OF_HOST + _bytes(hello) + _bytes(challenge), "sha256")


_bytes = msgspec.msgpack.encode
T = TypeVar("T", bound=msgspec.Struct)


async def _say(stream: ByteStream, words: Any) -> None:
    body = _bytes(words)
    await stream.send(len(body).to_bytes(_LENGTH_BYTES, "big") + body)


async def _receive(stream: ByteStream, kind: type[T]) -> T:
    """Read one message and no byte beyond it: the rest belongs to the next reader of the stream."""
    length = int.from_bytes(await _read(stream, _LENGTH_BYTES), "big")
    if length > MOST_BYTES:
        raise HandshakeError(_NOT_A_HANDSHAKE)
    try:
        return msgspec.msgpack.decode(await _read(stream, length), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HandshakeError(_NOT_A_HANDSHAKE) from error


async def _read(stream: ByteStream, length: int) -> bytes:
    read = b""
    while len(read) < length:
        read += await stream.receive(length - len(read))
    return read
