"""Adaptive executor: runs short computations on the actors' loop and long ones in a thread."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from typing import Annotated, TypeVar, TypeVarTuple, Unpack

from msgspec import Meta

from actorq.actors import Actor

LONG_SECONDS = 0.005
"""Longer computations run in a thread; for shorter ones changing threads would cost more than it frees."""

LARGE_NETWORK = 1_000_000
"""In parameters; below, distributing small products among threads costs torch more than it saves."""

TorchThreads = Annotated[
    Annotated[int, Meta(ge=1)] | None,
    Meta(
        description="threads torch computes with, in the whole process; absent: 1 for networks below "
        "a million parameters, or else one per core"
    ),
]
"""A setting; see `set_torch_threads`."""

V = TypeVar("V")
Args = TypeVarTuple("Args")


class AdaptiveExecutor:
    """Runs repeated computations of one kind inline or in a thread, by the mean time that they took before.

    Denormal numbers are flushed to zero meanwhile: Adam's moments of dead units become denormal, which is
    slow. This setting of the thread is reset afterwards.
    """

    seconds: float
    """Running mean of the seconds that a call takes."""

    def __init__(self, actor: Actor, long_seconds: float = LONG_SECONDS) -> None:
        self._actor = actor
        self._long_seconds = long_seconds
        self.seconds = math.inf  # the first call includes preparations: it doesn't predict the next ones

    async def __call__(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V:
        """Call `function(*args)`. Cancelled, a call in a thread ends by itself."""
        if self.is_short:
            return self.timed(function, *args)
        return await self._actor.in_thread(self.timed, function, *args)

    @property
    def is_short(self) -> bool:
        return self.seconds <= self._long_seconds

    def timed(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V:
        """Call `function(*args)` inline and measure its time."""
        # Only where torch is loaded: some computations do without.
        set_flush_denormal = getattr(sys.modules.get("torch"), "set_flush_denormal", _do_nothing)
        began = time.perf_counter()
        set_flush_denormal(True)
        try:
            return function(*args)
        finally:
            set_flush_denormal(False)
            self._note(time.perf_counter() - began)

    def _note(self, seconds: float) -> None:
        self.seconds = 0.0 if math.isinf(self.seconds) else self.seconds + 0.1 * (seconds - self.seconds)


def _do_nothing(_: bool) -> None:
    pass


def refuse_divergence(updates: int, loss: float, norm: float) -> None:
    """Raises FloatingPointError for a loss or a gradient's norm that is infinite or NaN."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise FloatingPointError(
            f"learning has diverged: after {updates} updates the loss is {loss}; a lower"
            " agent.learning_rate, a lower agent.max_gradient_norm or task.reward_clip may help"
        )


def set_torch_threads(threads: int | None, parameters: int) -> None:
    """Set torch's number of threads; None: determined by the number of the network's `parameters`."""
    import torch

    suitable = 1 if parameters < LARGE_NETWORK else len(os.sched_getaffinity(0))
    torch.set_num_threads(threads or suitable)
