"""What happens after a crash: who is started again, how soon, and when it is enough.

After Erlang/OTP: one-for-one, one-for-all and rest-for-one, at most so many restarts within a time.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio.abc import TaskGroup

from .cell import Cell
from .circles import StartOrder
from .errors import ActorFailed
from .life import Crash, Life
from .scheduling import Scheduler
from .spec import GroupSpec, RestartLimits

log = logging.getLogger("actorq.actors")

HALT_SECONDS = 2.0
"""How long an actor may take to stop that is started again with its group."""


class Supervisor:
    """Decides over all cells of a run, in the order in which they start."""

    def __init__(
        self,
        groups: Sequence[GroupSpec],
        clock: Scheduler,
        seed: int,
        restarted: Callable[[Cell], Awaitable[None]],
        failed: Callable[[ActorFailed], None],
    ) -> None:
        self._groups = {group.name: group for group in (GroupSpec(), *groups)}
        self._clock = clock
        self._random = random.Random(seed)
        self._restarted = restarted
        self._failed = failed
        self._history: defaultdict[str, deque[float]] = defaultdict(deque)
        self._recoveries: dict[str, anyio.CancelScope] = {}
        self.cells: Sequence[Cell] = ()
        self.nursery: TaskGroup | None = None
        self.stopping = False

    def life_ended(self, cell: Cell, life: Life) -> None:
        """A cell's life is over, by a crash or not."""
        crash = life.crash
        if crash is not None:
            log.error("%s %s", cell.name, crash.describe(), exc_info=crash.error)
        if self.stopping:
            if crash is not None:
                self._give_up(cell, crash, f"{crash.describe()} while the run was stopping")
        elif life.told_to_end:
            pass  # whoever told it to starts it again
        elif cell.spec.restart == "never":
            why = crash.describe() if crash is not None else "has ended"
            cell.bury(f"{cell.name} {why}, and its restart policy is never")
        else:
            self._recover(cell, crash)

    def _recover(self, cell: Cell, crash: Crash | None) -> None:
        """Start again whoever has to be; if that was under way, it begins anew with those affected now."""
        group = self._groups[cell.spec.group]
        key = f"actor {cell.name}" if group.strategy == "one-for-one" else f"group {group.name}"
        history = self._history[key]
        if cell.progressed:
            history.clear()
        if not self._may_restart(history, group.limits):
            why = crash.describe() if crash is not None else "ended its run loop"
            often = f"{group.limits.max_restarts} times within {group.limits.within_seconds:g} s"
            self._give_up(cell, crash, f"{why}; restarted {often} already")
            return
        name = f"recovery of {key}"
        if key in self._recoveries:
            self._clock.cancel(self._recoveries[key], name)
        scope = self._recoveries[key] = anyio.CancelScope()
        pause = self._backoff(len(history), group.limits)
        assert self.nursery is not None
        self._clock.spawn(self.nursery, name, self._restart, self._affected(cell, group), pause, scope)

    def _affected(self, cell: Cell, group: GroupSpec) -> list[Cell]:
        if group.strategy == "one-for-one":
            return [cell]
        members = [other for other in self.cells if other.spec.group == group.name and not other.buried]
        return members if group.strategy == "one-for-all" else members[members.index(cell) :]

    async def _restart(self, cells: Sequence[Cell], pause: float, scope: anyio.CancelScope) -> None:
        with scope:
            assert self.nursery is not None
            order = StartOrder()
            for cell in reversed(cells):
                cell.follow(order)
                with anyio.move_on_after(HALT_SECONDS):
                    await cell.halt()
                await cell.ended()
                if cell.spec.restart == "never":
                    cell.bury(f"{cell.name} was stopped with its group, and its restart policy is never")
            await self._clock.sleep(pause)
            for cell in cells:
                if cell.buried or self.stopping or scope.cancel_called:
                    continue
                cell.restarts += 1
                await cell.start(self.nursery, order)
                await self._restarted(cell)

    def _may_restart(self, history: deque[float], limits: RestartLimits) -> bool:
        now = self._clock.now()
        while history and history[0] < now - limits.within_seconds:
            history.popleft()
        if len(history) >= limits.max_restarts:
            return False
        history.append(now)
        return True

    def _backoff(self, restarts: int, limits: RestartLimits) -> float:
        doubled = limits.backoff_seconds * 2.0 ** (restarts - 1)
        return min(doubled, limits.backoff_max_seconds) * self._random.uniform(0.5, 1.0)

    def _give_up(self, cell: Cell, crash: Crash | None, reason: str) -> None:
        self.stopping = True
        cell.bury(f"{cell.name} {reason}")
        failure = ActorFailed(cell.name, reason)
        failure.__cause__ = crash.error if crash is not None else None
        self._failed(failure)
