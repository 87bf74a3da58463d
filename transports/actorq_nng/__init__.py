"""Transport between processes and hosts over nng sockets."""

from __future__ import annotations

from .transport import NngTransport

__all__ = ["NngTransport"]
