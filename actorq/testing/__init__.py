"""Tools for testing actors: a virtual clock, recorders, a misbehaving actor, a transport that encodes."""

from __future__ import annotations

from .clock import run_virtually
from .encoded import EncodedTransport
from .misbehaving import (
    PLACES,
    GetPokes,
    Misbehaving,
    Misbehaviour,
    Poke,
    PokeBeside,
    PokeInThread,
    Pokes,
    StartTask,
)
from .record import Record, recorder

__all__ = [
    "PLACES",
    "EncodedTransport",
    "GetPokes",
    "Misbehaving",
    "Misbehaviour",
    "Poke",
    "PokeBeside",
    "PokeInThread",
    "Pokes",
    "Record",
    "StartTask",
    "recorder",
    "run_virtually",
]
