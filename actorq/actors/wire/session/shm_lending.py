"""Shared memory between two nodes: arrays lent from this node's arena, borrowed from the peer's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from actorq.actors.wire.registry import WireError
from actorq.actors.wire.transport import Peer

from .shm_arena import ShmArena, ShmMapping


class ShmLending:
    """Arrays lent to and borrowed from one incarnation of one peer."""

    def __init__(
        self,
        arena: ShmArena,
        peer: Peer,
        mapping: ShmMapping | None,
        let_go: Callable[[], None],
        borrowed: Callable[[], bool],
    ) -> None:
        """`mapping` is that of the peer's arena, if it could be opened; `borrowed`: the peer maps this node's
        arena.

        `let_go` is called, from any thread, when there is something for `take_let_go`.
        """
        self._arena = arena
        self._reader = (peer.name, peer.incarnation)
        self._mapping = mapping
        self._borrowed = borrowed
        self._free: deque[int] = deque()
        self._notify = let_go

    def lend(self, array: NDArray[Any]) -> int | None:
        return self._arena.place(array, self._reader) if self._borrowed() else None

    def freed(self, offset: int) -> None:
        try:
            self._arena.freed(self._reader, offset)
        except ValueError as error:
            raise WireError(str(error)) from error

    def borrow(self, offset: int, nbytes: int) -> memoryview:
        if self._mapping is None:
            raise ValueError("the sender's shared memory isn't mapped here, as this node told it")
        return self._mapping.view(offset, nbytes, self._let_go)

    def _let_go(self, offset: int) -> None:
        self._free.append(offset)
        self._notify()

    def take_let_go(self) -> list[int]:
        taken = []
        while self._free:
            taken.append(self._free.popleft())
        return taken

    def close(self) -> None:
        """End the leases of the peer, which is gone."""
        self._arena.forget(self._reader)
        if self._mapping is not None:
            self._mapping.close()
