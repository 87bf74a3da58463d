"""Nodes on one machine whose shared memory can't be opened: large arrays use the socket."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.actors import Actor, Message, Peer, Request, System, handles
from actorq.actors.wire.codec import LARGE_BYTES
from actorq.actors.wire.session import session_transport, shm_arena
from actorq_nng import NngTransport
from tests.actors.world import spec
from tests.launchers import nodes
from tests.launchers.nodes import running

pytestmark = pytest.mark.anyio

LARGE = np.arange(LARGE_BYTES, dtype=np.float32)


class Doubled(Message):
    data: NDArray[np.float32]
    was_shared: bool
    """The request's array was in shared memory."""


class Double(Request[Doubled]):
    data: NDArray[np.float32]


def shared(array: NDArray[Any]) -> bool:
    """It lies in a mapping, as arenas do."""
    base: Any = array
    while base is not None and type(base).__name__ != "mmap":
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base is not None


class Doubler(Actor):
    @handles
    async def double(self, request: Double) -> Doubled:
        return Doubled(2 * request.data, shared(request.data))


async def doubled(system: System) -> Doubled:
    reply = await system.ref("doubler").ask(Double(LARGE.copy()), timeout=20)
    assert np.array_equal(reply.data, 2 * LARGE)
    return reply


async def test_large_arrays_are_in_shared_memory(anyio_backend: Any) -> None:
    async with running(anyio_backend, [spec("doubler", Doubler, node="far")]) as system:
        reply = await doubled(system)
    assert reply.was_shared
    assert shared(reply.data)


async def test_memory_that_this_side_cannot_open(
    anyio_backend: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where /proc is mounted with hidepid. The other side goes on sharing ours, and doesn't lend to us."""

    def refused(pid: int, fd: int) -> shm_arena.ShmMapping:
        raise PermissionError(13, "Permission denied", f"/proc/{pid}/fd/{fd}")

    monkeypatch.setattr(session_transport, "ShmMapping", refused)
    async with running(anyio_backend, [spec("doubler", Doubler, node="far")]) as system:
        reply = await doubled(system)
    assert reply.was_shared
    assert not shared(reply.data)
    (record,) = (each for each in caplog.records if "shared memory" in each.getMessage())
    assert "no shared memory with far, large arrays use the socket" in record.getMessage()


class Elsewhere(NngTransport):
    """Tells others of a descriptor that it doesn't have."""

    def address_of(self, node: str) -> Peer | None:
        peer = super().address_of(node)
        return replace(peer, memory=1 << 20) if peer is not None else None


async def test_memory_that_neither_side_can_open(anyio_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "NngTransport", Elsewhere)
    async with running(anyio_backend, [spec("doubler", Doubler, node="far")]) as system:
        reply = await doubled(system)
    assert not reply.was_shared
    assert not shared(reply.data)
