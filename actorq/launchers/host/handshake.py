"""How a host that joins and the coordinator of the run prove to each other that they know the run's secret.

Challenge and response: HMAC-SHA256 (RFC 2104) with a label for each direction, over all that was said before,
fresh nonces of both ends included. So a proof is good once, and for nobody else. It crosses inside TLS, where
there is TLS; what comes after it is protected by that alone.
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


class HandshakeError(ActorqError):
    """The other end is none to talk to; the text says why."""


class JoinHello(msgspec.Struct, frozen=True, array_like=True):
    """The host's first words. Later protocols only append fields, so that versions can be told apart."""

    protocol: int
    version: str
    run: str
    nonce: bytes


class Challenge(msgspec.Struct, frozen=True, array_like=True):
    """The coordinator's answer, and its proof."""

    protocol: int
    version: str
    nonce: bytes
    proof: bytes


class Proof(msgspec.Struct, frozen=True, array_like=True):
    """The host's."""

    proof: bytes


async def introduce(stream: ByteStream, run: str, secret: bytes) -> None:
    """The host's side: return when the coordinator has proven itself and been sent this host's proof.

    Raises HandshakeError with a sentence for people, and what the stream raises.
    """
    hello = JoinHello(PROTOCOL, __version__, run, secrets.token_bytes(_NONCE_BYTES))
    await _say(stream, hello)
    challenge = await _hear(stream, Challenge)
    _compare(challenge, "the run is led")
    if not hmac.compare_digest(challenge.proof, _coordinator_proof(secret, hello, challenge)):
        raise HandshakeError("who answers there doesn't know the run's secret: is the file of this run?")
    await _say(stream, Proof(_hosts_proof(secret, hello, challenge)))


async def admit(stream: ByteStream, run: str, secret: bytes) -> None:
    """The coordinator's side: return when the host has proven itself. Raises as `introduce` does."""
    hello = await _hear(stream, JoinHello)
    challenge = Challenge(PROTOCOL, __version__, secrets.token_bytes(_NONCE_BYTES), b"")
    proven = msgspec.structs.replace(challenge, proof=_coordinator_proof(secret, hello, challenge))
    await _say(stream, proven)
    _compare(hello, "a host wants to join")
    if hello.run != run:
        raise HandshakeError("a host wants to join another run: its file is not of this one")
    proof = await _hear(stream, Proof)
    if not hmac.compare_digest(proof.proof, _hosts_proof(secret, hello, proven)):
        raise HandshakeError("a host doesn't know the run's secret")


def _compare(said: JoinHello | Challenge, what: str) -> None:
    """Before anything else: nothing more can be relied on if it differs."""
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


async def _hear(stream: ByteStream, kind: type[T]) -> T:
    """Reads not a byte beyond it: what follows is for whoever takes the stream over."""
    length = int.from_bytes(await _read(stream, _LENGTH_BYTES), "big")
    if length > MOST_BYTES:
        raise HandshakeError("what came is no handshake of actorq")
    try:
        return msgspec.msgpack.decode(await _read(stream, length), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HandshakeError("what came is no handshake of actorq") from error


async def _read(stream: ByteStream, length: int) -> bytes:
    read = b""
    while len(read) < length:
        read += await stream.receive(length - len(read))
    return read
