"""Between processes and hosts, over nng sockets: nothing is lost silently, and unauthenticated peers deliver
nothing."""

from __future__ import annotations

from .transport import NngTransport

__all__ = ["NngTransport"]
