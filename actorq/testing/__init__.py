"""For people who test their own actors."""

from __future__ import annotations

from .encoded import EncodedTransport

__all__ = ["EncodedTransport"]
