"""Virtual clock for asyncio and trio: time jumps to the next deadline when all tasks wait.

Threads are not waited for: time jumps although they are running.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeVar, TypeVarTuple, Unpack

import anyio
import trio.testing

T = TypeVar("T")
Args = TypeVarTuple("Args")


def run_virtually(
    backend: Literal["asyncio", "trio"], function: Callable[[Unpack[Args]], Awaitable[T]], *args: *Args
) -> T:
    """`anyio.run` on a virtual clock that starts at 0. Raises what `function` raises."""
    options: dict[str, Any]
    if backend == "trio":
        options = {"clock": trio.testing.MockClock(autojump_threshold=0)}
    else:
        options = {"loop_factory": VirtualTimeLoop}
    return anyio.run(function, *args, backend=backend, backend_options=options)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """asyncio event loop whose clock moves only when no task can run."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.BaseSelector):
    """Selector that advances the clock instead of waiting for a timer."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        self._real = selectors.DefaultSelector()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return self._real.select(None)
        ready = self._real.select(0)
        if not ready and timeout > 0:
            self._jump(timeout)
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()
