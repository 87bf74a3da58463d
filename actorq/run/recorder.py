"""What the actors report: summed, averaged, and held against the declared end of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from actorq.topology import Stop

from .quantiles import Histogram

Row = dict[str, float]
"""One line of metrics.jsonl: flat, numbers only."""

ROW_EVERY_COUNTS: Final = 1000
"""A deterministic run has no seconds to write its rows by: it takes the sum of all counts for a clock."""

MEASURED: Final = ("evaluation_", "q_error_")
"""Readings of one policy each: of several in an interval the last counts, as their mean is that of none."""

LIMITED: Final = ("env_steps", "updates", "episodes")
"""The counts that [stop] may bound."""


class Evaluation(msgspec.Struct, frozen=True):
    """The greedy policy's latest evaluation."""

    return_mean: float
    return_std: float
    episodes: int


class Progress(msgspec.Struct, frozen=True):
    """How a run stands."""

    wall_seconds: float
    counts: dict[str, int]
    """Since the run's start: `env_steps`, `updates`, `episodes` and whatever else actors count."""
    rates: dict[str, float]
    """Per second, by the count's name, over the last interval of the metrics."""
    gauges: dict[str, float]
    """Each reading's mean over the last interval in which there was one, all actors together."""
    evaluation: Evaluation | None
    """The latest one, if there was any."""
    solved: bool
    """True once confirmed on fresh seeds."""
    stopped_by: str | None
    """The limit that was reached, if one was."""


class _Interval:
    """One actor's readings of one name since the last row."""

    __slots__ = ("readings", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self.readings = 0


class Recorder:
    """Takes actors' reports (it is a `Reports`), tells when the run shall end, and makes rows of metrics.

    `count` and `gauge` belong to the run's event loop and take about a microsecond; `progress`
    may be called from any thread.
    """

    def __init__(
        self,
        stop: Stop,
        deterministic: bool,
        on_stop: Callable[[str], None],
        clock: Callable[[], float],
        on_row: Callable[[Row], None] | None = None,
    ) -> None:
        """`clock` tells the wall seconds since the command's start.

        `on_stop` is called once, inside the report that reaches a limit, with the limit's name: "env_steps",
        "updates", "episodes" or "solved". `on_row` is given the rows of a deterministic run, inside the
        count that takes the sum of all counts past a multiple of ROW_EVERY_COUNTS; in any other run nobody
        calls it, and `row` is for the caller to call by time.
        """
        self.counts: dict[str, int] = {}
        """Sums over all actors, by name."""
        self.solved = False
        self.stopped_by: str | None = None
        self.staleness = Histogram()
        """Of all `staleness` readings: updates between the weights in use and the newest."""
        self._on_stop = on_stop
        self._clock = clock
        self._on_row = on_row if deterministic else None
        self._limits = {name: limit for name in LIMITED if (limit := getattr(stop, name)) is not None}
        self._stop_when_solved = stop.solved is not None
        self._by_actor: dict[tuple[str, str], int] = {}
        self._gauges: dict[str, dict[str, _Interval]] = {}
        self._last: dict[str, float] = {}
        self._means: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self._counts_in_all = 0
        self._next_row = ROW_EVERY_COUNTS
        self._seconds_before = 0.0
        self._row_at = self.wall_seconds
        self._row_counts: Mapping[str, int] = {}

    @property
    def wall_seconds(self) -> float:
        """Since the command's start, and before that what the run took until its checkpoint."""
        return self._seconds_before + self._clock()

    # Called by actors.

    def count(self, actor: str, name: str, amount: int) -> None:
        amount = int(amount)
        key = (actor, name)
        self._by_actor[key] = self._by_actor.get(key, 0) + amount
        self.counts[name] = total = self.counts.get(name, 0) + amount
        if self._on_row is not None:
            self._counts_in_all += amount
            if self._counts_in_all >= self._next_row:
                self._next_row = (self._counts_in_all // ROW_EVERY_COUNTS + 1) * ROW_EVERY_COUNTS
                self._on_row(self.row())
        limit = self._limits.get(name)
        if limit is not None and total >= limit:
            self._stop(name)

    def gauge(self, actor: str, name: str, value: float) -> None:
        try:
            gauge = self._gauges[name][actor]
        except KeyError:
            gauge = self._gauges.setdefault(name, {}).setdefault(actor, _Interval())
        gauge.total += value
        gauge.readings += 1
        self._last[name] = value
        if name == "staleness":
            self.staleness.add(value)
        elif name == "solved" and value:
            self.solved = True
            if self._stop_when_solved:
                self._stop("solved")

    def _stop(self, reason: str) -> None:
        if self.stopped_by is None:
            self.stopped_by = reason
            self._on_stop(reason)

    # Read by the run.

    def count_of(self, actor: str, name: str) -> int:
        """One actor's share of `counts[name]`."""
        return self._by_actor.get((actor, name), 0)

    def last(self, name: str) -> float | None:
        """The latest reading of that name, whichever actor's; None if there was none."""
        return self._last.get(name)

    @property
    def evaluation(self) -> Evaluation | None:
        """The latest evaluation, if there was any."""
        mean = self.last("evaluation_return_mean")
        if mean is None:
            return None
        std, episodes = self.last("evaluation_return_std"), self.last("evaluation_episodes")
        return Evaluation(mean, std or 0.0, int(episodes or 0))

    def progress(self) -> Progress:
        """How the run stands now; from any thread."""
        return Progress(
            wall_seconds=self.wall_seconds,
            counts=dict(self.counts),  # one step for the interpreter: no other thread comes between
            rates=self._rates,
            gauges=self._means,
            evaluation=self.evaluation,
            solved=self.solved,
            stopped_by=self.stopped_by,
        )

    def row(self) -> Row:
        """The metrics since the last row, and begin the next interval.

        Wall-clock fields are `wall_seconds` and those that end in `_per_second`; all others of two
        deterministic runs are equal. A gauge is the mean of its readings in the interval, and absent if there
        was none; where several actors read it, each one's own mean stands beside it as `name/actor`.
        """
        now = self.wall_seconds
        per_second = 1 / (now - self._row_at) if now > self._row_at else 0.0
        before = self._row_counts
        rates = {name: (total - before.get(name, 0)) * per_second for name, total in self.counts.items()}
        means, by_actor = self._interval_means()
        row: Row = {"wall_seconds": now, **self.counts, **means, **by_actor}
        row |= {f"{name}_per_second": rate for name, rate in rates.items()}
        self._rates, self._means = rates, {**self._means, **means}  # new ones: other threads read the old
        self._row_at, self._row_counts = now, dict(self.counts)
        return row

    def _interval_means(self) -> tuple[dict[str, float], dict[str, float]]:
        """Means by name, and by name/actor where several actors read it; begins the next interval."""
        means, by_actor = {}, {}
        for name, gauges in self._gauges.items():
            heard = {actor: gauge for actor, gauge in gauges.items() if gauge.readings}
            if not heard:
                continue
            readings = sum(gauge.readings for gauge in heard.values())
            means[name] = sum(gauge.total for gauge in heard.values()) / readings
            if name.startswith(MEASURED):
                means[name] = self._last[name]
            for actor, gauge in heard.items():
                if len(gauges) > 1:
                    by_actor[f"{name}/{actor}"] = gauge.total / gauge.readings
                gauge.total, gauge.readings = 0.0, 0
        return means, by_actor

    # Checkpoints.

    def state(self) -> dict[str, Any]:
        """What a run that is resumed goes on from; from any thread."""
        by_actor = dict(self._by_actor)  # a copy, as in `progress`
        return {
            "wall_seconds": self.wall_seconds,
            "counts": [[actor, name, total] for (actor, name), total in by_actor.items()],
            "last": dict(self._last),
            "solved": self.solved,
            "staleness": self.staleness.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, before the first report. A limit passed already ends the run at the next."""
        self._seconds_before = state["wall_seconds"]
        for actor, name, total in state["counts"]:
            self._by_actor[actor, name] = total
            self.counts[name] = self.counts.get(name, 0) + total
        self._last = dict(state["last"])
        self.solved = state["solved"]
        self.staleness.load_state(state["staleness"])
        self._counts_in_all = sum(self.counts.values())
        self._next_row = (self._counts_in_all // ROW_EVERY_COUNTS + 1) * ROW_EVERY_COUNTS
        self._row_at, self._row_counts = self.wall_seconds, dict(self.counts)
