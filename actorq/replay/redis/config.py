"""Settings and address of a Redis store. Free of redis and numpy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec
from msgspec import Meta

SCHEMES = ("redis", "rediss", "unix")

TLS_OPTIONS = {
    "ssl_ca_certs": r".+",
    "ssl_certfile": r".+",
    "ssl_keyfile": r".+",
    "ssl_cert_reqs": r"none|optional|required",
    "ssl_check_hostname": r"true|false",
}
"""Options of a rediss:// address, and the values that they may have."""


class RedisConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Address of Redis, and retention of the data. Whether it is a cluster is detected."""

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
        bool, Meta(description="the data outlive the run, and a run of the same name continues with them")
    ] = False
    cache_mb: Annotated[
        int, Meta(ge=0, description="megabytes of chunks that a learner keeps, so as not to read them twice")
    ] = 256

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, sentence) for each problem."""
        if self.url is not None:
            try:
                parts = urlsplit(self.url)
                port = parts.port
            except ValueError:
                yield "url", "is not an address of Redis: write such as redis://HOST:PORT"
                return
            yield from (("url", sentence) for sentence in _address_problems(parts, port))

    def machine_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, sentence) for everything this machine lacks."""
        if self.password_env is not None and self.password_env not in os.environ:
            yield "password_env", f"the environment variable {self.password_env} is not set"


def _address_problems(parts: SplitResult, port: int | None) -> Iterator[str]:
    """Sentences about the address. They quote nothing of it, since any part may be a misplaced password."""
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme not in SCHEMES:
        yield "is not an address of Redis: begin with redis://, rediss:// or unix://"
    elif parts.password is not None or "password" in options:
        yield (
            "a password would be written to the run's folder: leave it out, and name the environment variable"
            " that holds it as password_env"
        )
    elif parts.scheme == "unix" and (parts.hostname or not parts.path):
        yield "names no socket: write unix:///PATH"
    elif parts.scheme != "unix" and not parts.hostname:
        yield f"names no host: write {parts.scheme}://HOST:PORT"
    elif port == 0:
        yield "port 0 can't be connected to"
    elif parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
        yield f"names a database other than by its number: write such as {parts.scheme}://HOST:PORT/0"
    elif parts.fragment:
        yield "has a # in it, which no address of Redis has"
    else:
        yield from _option_problems(options, tls=parts.scheme == "rediss")


def _option_problems(options: Mapping[str, str], *, tls: bool) -> Iterator[str]:
    known = {"db": r"\d+", **(TLS_OPTIONS if tls else {})}
    for name, value in options.items():
        if name not in known:
            yield f"has an unknown option; there are {', '.join(known)}"
        elif not re.fullmatch(known[name], value):
            yield f"its option {name} has an invalid value"


class Place(msgspec.Struct, frozen=True):
    """Location of a shard's chunks: all that a learner needs to read them."""

    url: str
    password_env: str | None
    shard: str
    """RUN:SHARD, the shard's part of the keys."""
    cache_mb: int


def missing_packages() -> str | None:
    """A sentence with the command that installs the missing package, or None."""
    if find_spec("redis") is None:
        return 'Redis needs packages that are not installed: pip install "actorq[redis]"'
    return None


def bytes_of(size: str) -> int:
    """The bytes of a size such as "200mb", by Redis's rules: kb, mb and gb are powers of 1024, k, m and g of
    1000.

    Raises `ValueError` if the text isn't a size.
    """
    match = re.fullmatch(r"(\d+)(b|k|kb|m|mb|g|gb)?", size.lower())
    if match is None:
        raise ValueError(f'{size!r} is not a size: write a number of bytes, or such as "200mb" or "2gb"')
    factors = {"k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}
    return int(match[1]) * factors.get(match[2], 1)
