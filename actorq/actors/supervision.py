"""What happens after a crash: who is started again, how soon, and when it is enough.

After Erlang/OTP: one-for-one, one-for-all and rest-for-one, at most so many restarts within a time.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

import anyio
from anyio.abc import TaskGroup

from .cell import Cell, Crash
from .errors import ActorFailed
from .scheduling import Scheduler
from .spec import GroupSpec, RestartLimits

log = logging.getLogger("actorq.actors")


class Supervisor:
    """Decides over all cells of a run, in the order in which they start."""

    def __init__(
        self,
        cells: Sequence[Cell],
        groups: Sequence[GroupSpec],
        clock: Scheduler,
        seed: int,
        restarted: Callable[[Cell], None],
        failed: Callable[[ActorFailed], None],
    ) -> None:
        self._cells = cells
        self._groups = {group.name: group for group in (GroupSpec(), *groups)}
        self._clock = clock
        self._random = random.Random(seed)
        self._restarted = restarted
        self._failed = failed
        self._history: defaultdict[str, deque[float]] = defaultdict(deque)
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._halting: set[str] = set()
        self.nursery: TaskGroup | None = None
        self.stopping = False

    def life_ended(self, cell: Cell, crash: Crash | None) -> None:
        """A cell's life is over, by a crash or not."""
        if crash is not None:
            log.error("%s %s", cell.name, crash.describe(), exc_info=crash.error)
        if self.stopping:
            if crash is not None:
                self._give_up(cell, crash, f"{crash.describe()} while the run was stopping")
        elif crash is not None or cell.name not in self._halting:
            assert self.nursery is not None
            self.nursery.start_soon(self._recover, cell, crash)

    async def _recover(self, cell: Cell, crash: Crash | None) -> None:
        if cell.spec.restart == "never":
            assert crash is not None
            cell.bury(f"{cell.name} {crash.describe()}, and its restart policy is never")
            return
        group = self._groups[cell.spec.group]
        alone = group.strategy == "one-for-one"
        key = cell.name if alone else group.name
        if cell.progressed:
            self._history[key].clear()
        if not self._may_restart(self._history[key], group.limits):
            limits = group.limits
            why = crash.describe() if crash is not None else "ended its run loop"
            self._give_up(
                cell,
                crash,
                f"{why}; restarted {limits.max_restarts} times within {limits.within_seconds:g} s already",
            )
            return
        async with self._locks[key]:
            affected = [cell] if alone else self._affected(cell, group)
            await self._halt(affected)
            await self._clock.sleep(self._backoff(len(self._history[key]), group.limits))
            for other in affected:
                if not self.stopping and not other.buried:
                    other.restarts += 1
                    await other.start(self.nursery)  # type: ignore[arg-type]
                    self._restarted(other)

    def _affected(self, cell: Cell, group: GroupSpec) -> list[Cell]:
        members = [other for other in self._cells if other.spec.group == group.name and not other.buried]
        return members if group.strategy == "one-for-all" else members[members.index(cell) :]

    async def _halt(self, cells: Sequence[Cell]) -> None:
        for cell in reversed(cells):
            if cell.alive:
                self._halting.add(cell.name)
                try:
                    with anyio.move_on_after(2):
                        await cell.halt()
                    await cell.down()
                finally:
                    self._halting.discard(cell.name)

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
        cell.bury(f"{cell.name} {reason}")
        failure = ActorFailed(cell.name, reason)
        failure.__cause__ = crash.error if crash is not None else None
        self._failed(failure)
