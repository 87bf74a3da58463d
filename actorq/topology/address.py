"""Network addresses in topology files and commands."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

PATTERN = r"^tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}$"
WORDS = 'an address such as "tcp://10.0.0.1:7070"'


class Address(NamedTuple):
    """`tcp://host:port`; an IPv6 address is in square brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{bracketed(self.host)}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it can certainly be reached from this machine only."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_wildcard(self) -> bool:
        """Whether it means all interfaces, so that peers can't use it as an address."""
        try:
            return ip_address(self.host).is_unspecified
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Parse an address. Raises ValueError with what would be right."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"expected {WORDS}")
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    if int(port) > 65535:
        raise ValueError("a port is at most 65535")
    return Address(host.strip("[]"), int(port))


def bracketed(host: str) -> str:
    """The host as it is written before a port."""
    return f"[{host}]" if ":" in host else host
