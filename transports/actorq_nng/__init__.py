"""Between processes and hosts, over nng sockets: nothing is lost silently, and strangers deliver nothing."""

from __future__ import annotations

from .transport import NngTransport

__all__ = ["NngTransport"]
