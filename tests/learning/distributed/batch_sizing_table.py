"""What dealing by speed gains, in simulated time: the table of docs/heterogeneous.md.

`python -m tests.learning.distributed.batch_sizing_table` prints it.
"""

import heapq
import random

from actorq.learning.distributed.batch_sizing import BatchSizing, least_rows
from actorq.learning.distributed.update_rule_settings import UpdateRuleSettings
from actorq.learning.distributed.update_rules import Offer, make_update_rule

WORKERS, BATCH_SIZE, SPREAD, UPDATES = 4, 64, 0.2, 1000
CASES = [(1, 0.0), (2, 0.0), (4, 0.0), (10, 0.0), (4, 0.2), (10, 0.2)]
"""How many times slower the last worker is, and what a gradient costs whatever its rows."""

COLUMNS = [
    UpdateRuleSettings(rule="synchronous", deal="equal"),
    UpdateRuleSettings(rule="synchronous", deal="speed"),
    UpdateRuleSettings(rule="synchronous", deal="equal", wait_at_most_seconds=0.5),
    UpdateRuleSettings(rule="synchronous", deal="speed", wait_at_most_seconds=0.5),
]
ROUND_IS_OVER = -1


class Simulation:
    """A front and its workers. A batch takes a fast worker a second, up to `SPREAD` more or less."""

    def __init__(self, settings: UpdateRuleSettings, slower: float, fixed: float) -> None:
        self._settings, self._fixed = settings, fixed
        self._slower = [1.0] * (WORKERS - 1) + [slower]
        self._rule = make_update_rule(settings, WORKERS)
        self._sizing = BatchSizing(WORKERS, BATCH_SIZE, least_rows(BATCH_SIZE, 1))
        self._rng = random.Random(0)
        self._now, self._version, self._applied = 0.0, 0, 0
        self._coming: list[tuple[float, int, Offer]] = []
        """When, from whom (or `ROUND_IS_OVER`), and what; of the latter the version counts alone."""
        self._first: int | None = None
        """The version whose first gradient has come."""

    def batches_per_second(self) -> float:
        """Applied, in batches of `BATCH_SIZE`."""
        for worker in range(WORKERS):
            self._hand(worker)
        while self._version < UPDATES:
            self._now, worker, offer = heapq.heappop(self._coming)
            if worker != ROUND_IS_OVER:
                self._sizing.arrived(worker, offer.rows, self._now)
                self._rule.offered(offer)
                self._begin_to_wait(offer)
            elif offer.updates == self._version:
                self._rule.wait_no_longer()
            self._advance()
        return self._applied / BATCH_SIZE / self._now

    def _hand(self, worker: int) -> None:
        self._rule.computing(worker, self._version)
        rows = self._sizing.handed(worker, self._now)
        if self._settings.deal == "equal":
            rows = BATCH_SIZE
        unspread = self._slower[worker] * (self._fixed + (1.0 - self._fixed) * rows / BATCH_SIZE)
        done = self._now + unspread * self._rng.uniform(1.0 - SPREAD, 1.0 + SPREAD)
        heapq.heappush(self._coming, (done, worker, Offer(worker, self._version, rows)))

    def _begin_to_wait(self, offer: Offer) -> None:
        seconds = self._settings.wait_at_most_seconds
        if seconds is not None and offer.updates == self._version and self._first != self._version:
            self._first = self._version
            heapq.heappush(self._coming, (self._now + seconds, ROUND_IS_OVER, offer))

    def _advance(self) -> None:
        round_ = self._rule.next(self._version)
        free = [offer.worker for offer, _ in self._rule.take_dropped()]
        if round_ is not None:
            self._version += 1
            self._applied += sum(offer.rows for offer in round_.offers)
            self._sizing.begin_round()
            free += [offer.worker for offer in round_.offers]
        for worker in free:
            self._hand(worker)


def rows() -> list[str]:
    """The table's, below its head."""
    lines = []
    for slower, fixed in CASES:
        slow = "not at all" if slower == 1 else f"{slower} times"
        rates = [f"{Simulation(each, slower, fixed).batches_per_second():.2f}" for each in COLUMNS]
        lines.append(f"| {slow} | {fixed:g} | {' | '.join(rates)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
