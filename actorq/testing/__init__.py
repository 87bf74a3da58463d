"""Tools for testing actors: a virtual clock, recorders, a transport that encodes."""

from __future__ import annotations

from .clock import run_virtually
from .encoded import EncodedTransport
from .record import Record, recorder

__all__ = ["EncodedTransport", "Record", "recorder", "run_virtually"]
