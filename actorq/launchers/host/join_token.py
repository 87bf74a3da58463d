"""The join token: a file with the run's secret and address, which lets a host join."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from actorq.actors import ActorqError
from actorq.actors.wire.tls import Tls

_MOST_BYTES = 64 * 1024


class JoinTokenError(ActorqError, ValueError):
    """The file is not a join token, or other users can read it."""


class JoinToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Contents of a join token. Its holder can run nodes of the run, and so read and send all messages of its
    actors.
    """

    run: str
    address: str
    """Address at which main listens: `tcp://host:port`."""
    secret: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """Hexadecimal: each end of a connection proves by HMAC that it knows it; it is never sent."""
    tls: Tls | None = None

    def __repr__(self) -> str:
        return f"JoinToken(run={self.run!r}, address={self.address!r})"


def write_join_token(path: Path, join_token: JoinToken) -> None:
    """Write the file, readable by its owner only, replacing an existing one. Raises OSError."""
    partial = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(join_token)) + b"\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_join_token(path: Path) -> JoinToken:
    """Read the file. Raises JoinTokenError with the reason."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MOST_BYTES)
    except OSError as error:
        raise JoinTokenError(f"{path}: can't be read: {error.strerror}") from error
    if mode & 0o077:
        raise JoinTokenError(f"{path}: others may read it, and join the run: chmod 600 {path}")
    try:
        return msgspec.json.decode(content, type=JoinToken)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JoinTokenError(f"{path}: is not the join token of a run: {error}") from error
