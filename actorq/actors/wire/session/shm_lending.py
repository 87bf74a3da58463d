"""Large arrays between two nodes of one machine: lent from this node's arena, borrowed from the other's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from actorq.actors import Peer, WireError

from .shm_arena import ShmArena, ShmMapping


class ShmLending:
    """With one incarnation of one peer."""

    def __init__(
        self,
        arena: ShmArena,
        peer: Peer,
        window: ShmMapping | None,
        let_go: Callable[[], None],
        borrowed: Callable[[], bool],
    ) -> None:
        """`window`: on the peer's arena, if it could be opened; `borrowed`: whether it has one on ours.

        `let_go` is called, from any thread, when there is something for `take_let_go`.
        """
        self._arena = arena
        self._reader = (peer.name, peer.incarnation)
        self._window = window
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
        if self._window is None:
            raise ValueError("the sender's shared memory can't be read here, as it was told")
        return self._window.view(offset, nbytes, self._let_go)

    def _let_go(self, offset: int) -> None:
        self._free.append(offset)
        self._notify()

    def take_let_go(self) -> list[int]:
        taken = []
        while self._free:
            taken.append(self._free.popleft())
        return taken

    def close(self) -> None:
        """The peer is gone: what it had borrowed is free."""
        self._arena.forget(self._reader)
        if self._window is not None:
            self._window.close()
