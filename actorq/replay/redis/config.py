"""What a topology may set about a store in Redis, and where one is. Free of redis and numpy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

SCHEMES = ("redis", "rediss", "unix")


class RedisConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Redis is, and what is to become of the data. Whether it is a cluster is found out."""

    url: (
        Annotated[str, Meta(description="redis://, rediss:// (TLS) or unix://; absent: see ports.redis")]
        | None
    ) = None
    password_env: (
        Annotated[
            str,
            Meta(
                pattern="^[A-Za-z_][A-Za-z0-9_]*$",
                description="environment variable with the password, where a shard or learner runs",
                extra={"words": "a variable's name"},
            ),
        ]
        | None
    ) = None
    keep: Annotated[
        bool, Meta(description="the data outlive the run, and a run of the same name goes on with them")
    ] = False
    cache_mb: Annotated[
        int, Meta(ge=0, description="megabytes of chunks that a learner keeps, so as not to read them twice")
    ] = 256

    def faults(self) -> Iterator[tuple[str, str]]:
        """(field, sentence) for what is wrong."""
        if self.url is None:
            return
        parts = urlsplit(self.url)
        if parts.scheme not in SCHEMES:
            yield "url", f"{self.url!r} is no address of Redis: begin with redis://, rediss:// or unix://"
        elif parts.password or "password=" in parts.query:
            yield (
                "url",
                "a password would stand in the run's folder: leave it out, and name the environment"
                " variable that holds it as password_env",
            )

    def machine_faults(self) -> Iterator[tuple[str, str]]:
        """(field, sentence) for what this machine lacks."""
        if self.password_env is not None and self.password_env not in os.environ:
            yield "password_env", f"the environment variable {self.password_env} is not set"


class Place(msgspec.Struct, frozen=True):
    """Where a shard's chunks are: all that a learner needs to read them."""

    url: str
    password_env: str | None
    shard: str
    """RUN:SHARD, the part of its keys that is its own."""
    cache_mb: int


def missing_packages() -> str | None:
    """Say what to install, if it isn't."""
    if find_spec("redis") is None:
        return 'Redis needs packages that are not installed: pip install "actorq[redis]"'
    return None


def bytes_of(size: str) -> int:
    """What "200mb" is in bytes, as Redis reckons: kb, mb and gb are powers of 1024, k, m and g of 1000.

    Raises `ValueError` if it isn't a size.
    """
    match = re.fullmatch(r"(\d+)(b|k|kb|m|mb|g|gb)?", size.lower())
    if match is None:
        raise ValueError(f'{size!r} is no size: write a number of bytes, or such as "200mb" or "2gb"')
    factors = {"k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}
    return int(match[1]) * factors.get(match[2], 1)
