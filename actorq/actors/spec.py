"""Actor specifications: everything that a node needs to create and wire its actors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .actor import Actor
from .message import Config

MAIN = "main"
"""The node of the caller's process, through which the application outside reaches the actors."""

OUTSIDE = "outside"
"""Sender name of messages from the application that runs the actors."""

RestartPolicy = Literal["always", "on-failure", "never"]
Strategy = Literal["one-for-one", "one-for-all", "rest-for-one"]


@dataclass(frozen=True, slots=True)
class MailboxBounds:
    """Bounds on one sender's waiting messages at one receiver: number, and bytes of payload."""

    messages: int = 1000
    bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RestartLimits:
    """At most `max_restarts` within `within_seconds`; between them a back-off that doubles, with jitter."""

    max_restarts: int = 3
    within_seconds: float = 60.0
    backoff_seconds: float = 0.1
    backoff_max_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorSpec:
    """One checked actor of a topology: everything needed to create it and wire it."""

    name: str
    cls: type[Actor]
    node: str = "main"
    index: int = 0
    count: int = 1
    instances: int = 1
    """Number of instances of its group; index and count go over all of them, those of the first instance
    first.
    """
    config: Config = field(default_factory=Config)
    tables: Mapping[str, Any] = field(default_factory=dict)
    ports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Port name to the names of the actors it is wired to; feeds name their publishers."""
    seed: int = 0
    run_name: str = "run"
    mailbox: MailboxBounds = MailboxBounds()
    restart: RestartPolicy = "on-failure"
    group: str = ""
    snapshot_every_seconds: float | None = None
    snapshot_every_updates: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """Actors that are supervised together; actors in no group are supervised one for one."""

    name: str = ""
    strategy: Strategy = "one-for-one"
    limits: RestartLimits = RestartLimits()


def derive_seed(seed: int, name: str) -> int:
    """A 63-bit seed derived from the run's seed and a name: another name, another seed."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
