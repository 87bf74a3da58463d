"""Recorder of actors' reports: sums, means and histograms, metrics rows, and the run's declared limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from numpy.typing import NDArray

from actorq.actors.histogram import Distribution
from actorq.topology import Stop

from .distributions import Distributions, merged, quantile_fields

Row = dict[str, float]
"""One line of metrics.jsonl: flat, numbers only."""


class Entry(NamedTuple):
    """A row of metrics and the histograms of the same interval. Neither may change any more."""

    row: Row
    distributions: Mapping[str, Distribution] = {}
    """By the observed name."""


ROW_EVERY_COUNTS: Final = 1000
"""Rows of a deterministic run are written by the sum of all counts, since its time isn't the wall clock's."""

MEASURED: Final = ("evaluation_", "q_error_")
"""Readings of one policy each: the last of an interval counts, since their mean belongs to no policy."""

_EVALUATED: Final = "evaluation_return_mean"

OBSERVED: Final = frozenset({"staleness"})
"""Readings whose distribution is kept even where they are reported one by one."""

LIMITED: Final = ("env_steps", "updates", "episodes")
"""The counts that [stop] may bound."""


class Evaluation(msgspec.Struct, frozen=True):
    """The greedy policy's latest evaluation, in one task or in all of them together."""

    return_mean: float
    return_std: float
    episodes: int


class Progress(msgspec.Struct, frozen=True):
    """A run's progress."""

    wall_seconds: float
    counts: dict[str, int]
    """Since the run's start: `env_steps`, `updates`, `episodes` and all other counts of actors."""
    rates: dict[str, float]
    """Per second, by the count's name, over the last interval of the metrics."""
    gauges: dict[str, float]
    """Each gauge's mean over all actors in the latest interval that has a reading."""
    evaluation: Evaluation | None
    """The latest one, if there was any; of several tasks, all episodes together."""
    solved: bool
    """True once confirmed on fresh seeds."""
    stopped_by: str | None
    """The limit that was reached, if one was."""
    tasks: dict[str, Evaluation] = {}
    """With several tasks, the latest evaluation of each, by name; else empty."""


class _Interval:
    """One actor's readings of one name since the last row."""

    __slots__ = ("readings", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self.readings = 0


class Recorder:
    """The run's `Reports`: takes actors' reports, detects the run's limits, and makes rows of metrics.

    `count`, `gauge` and `observe` belong to the run's event loop and take few microseconds; `progress` may be
    called from any thread.
    """

    def __init__(
        self,
        stop: Stop,
        deterministic: bool,
        on_stop: Callable[[str], None],
        clock: Callable[[], float],
        on_row: Callable[[Row], None] | None = None,
    ) -> None:
        """`clock` returns the wall seconds since the command's start.

        `on_stop` is called once, inside the report that reaches a limit, with the limit's name: "env_steps",
        "updates", "episodes" or "solved". `on_row` is given the rows of a deterministic run, inside the
        count that takes the sum of all counts past a multiple of ROW_EVERY_COUNTS; in other runs it isn't
        called, and the caller calls `row` by time.
        """
        self.counts: dict[str, int] = {}
        """Sums over all actors, by name."""
        self.solved = False
        self.stopped_by: str | None = None
        self.newest: dict[str, Distribution] = {}
        """Distributions in the newest row's interval, by name; read only."""
        self._on_stop = on_stop
        self._clock = clock
        self._on_row = on_row if deterministic else None
        self._limits = {name: limit for name in LIMITED if (limit := getattr(stop, name)) is not None}
        self._stop_when_solved = stop.solved is not None
        self._by_actor: dict[tuple[str, str], int] = {}
        self._distributions = Distributions()
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
        """Since the command's start, plus the seconds before the checkpoint it was resumed from."""
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
        self._last[name] = value
        if name in OBSERVED or name in self._distributions:
            self._distributions.observe(actor, name, value)
            return
        try:
            gauge = self._gauges[name][actor]
        except KeyError:
            gauge = self._gauges.setdefault(name, {}).setdefault(actor, _Interval())
        gauge.total += value
        gauge.readings += 1
        if name == "solved" and value:
            self.solved = True
            if self._stop_when_solved:
                self._stop("solved")

    def observe(self, actor: str, name: str, values: float | NDArray[Any]) -> None:
        self._distributions.observe(actor, name, values)

    def merge(self, actor: str, name: str, observed: Distribution) -> None:
        self._distributions.merge(actor, name, observed)

    def _stop(self, reason: str) -> None:
        if self.stopped_by is None:
            self.stopped_by = reason
            self._on_stop(reason)

    # Read by the run.

    def last(self, name: str) -> float | None:
        """The latest reading of that name, whichever actor's; None if there was none."""
        return self._last.get(name)

    def distributions(self) -> dict[str, Distribution]:
        """The distributions since the run's start, by name; called like `state`."""
        return self._distributions.of_run()

    @property
    def evaluation(self) -> Evaluation | None:
        """The latest evaluation, if there was any."""
        return self._evaluation("") if _EVALUATED in self._last else None

    @property
    def task_evaluations(self) -> dict[str, Evaluation]:
        """With several tasks, the latest evaluation of each, by name; else empty."""
        of_tasks = [
            name.removeprefix(_EVALUATED) for name in list(self._last) if name.startswith(f"{_EVALUATED}/")
        ]
        return {task[1:]: self._evaluation(task) for task in of_tasks}

    def _evaluation(self, suffix: str) -> Evaluation:
        std, episodes = self.last(f"evaluation_return_std{suffix}"), self.last(f"evaluation_episodes{suffix}")
        return Evaluation(self._last[f"{_EVALUATED}{suffix}"], std or 0.0, int(episodes or 0))

    def progress(self) -> Progress:
        """The current progress; may be called from any thread."""
        return Progress(
            wall_seconds=self.wall_seconds,
            counts=dict(self.counts),  # atomic under the interpreter lock
            rates=self._rates,
            gauges=self._means,
            evaluation=self.evaluation,
            solved=self.solved,
            stopped_by=self.stopped_by,
            tasks=self.task_evaluations,
        )

    def row(self) -> Row:
        """The metrics since the last row, and begin the next interval.

        Wall-clock fields are `wall_seconds` and those that end in `_per_second`; all others of two
        deterministic runs are equal. A gauge is the mean of its readings in the interval, and absent if there
        was none; with several actors, each one's own mean is added as `name/actor`. Observed values have
        quantiles beside their mean, as `name_p50`; a gauge of that name takes precedence.
        """
        now = self.wall_seconds
        per_second = 1 / (now - self._row_at) if now > self._row_at else 0.0
        before = self._row_counts
        rates = {name: (total - before.get(name, 0)) * per_second for name, total in self.counts.items()}
        observed = self._distributions.end_interval()
        self.newest = {name: merged(parts.values()) for name, parts in observed.items()}
        means, by_actor = self._interval_means(observed)
        row: Row = {}
        for name, distribution in self.newest.items():
            row |= quantile_fields(name, distribution)
        row = {"wall_seconds": now, **self.counts, **row, **means, **by_actor}
        row |= {f"{name}_per_second": rate for name, rate in rates.items()}
        # New dicts: other threads read the old ones.
        self._rates, self._means = rates, {**self._means, **means}
        self._row_at, self._row_counts = now, dict(self.counts)
        return row

    def _interval_means(self, observed: Mapping[str, Mapping[str, Distribution]]) -> tuple[Row, Row]:
        """Means by name, and with several actors by name/actor; begins the next interval."""
        sums = {
            name: {actor: (gauge.total, gauge.readings) for actor, gauge in gauges.items()}
            for name, gauges in self._gauges.items()
        }
        for gauges in self._gauges.values():
            for gauge in gauges.values():
                gauge.total, gauge.readings = 0.0, 0
        for name, parts in observed.items():
            sums[name] = {actor: (part.total, part.count) for actor, part in parts.items()}
        means: Row = {}
        by_actor: Row = {}
        for name, actors in sums.items():
            read = {actor: (total, readings) for actor, (total, readings) in actors.items() if readings}
            if not read:
                continue
            totals, readings = zip(*read.values(), strict=True)
            means[name] = sum(totals) / sum(readings)
            if name.startswith(MEASURED):
                means[name] = self._last.get(name, means[name])
            if len(actors) > 1:
                by_actor |= {f"{name}/{actor}": total / count for actor, (total, count) in read.items()}
        return means, by_actor

    # Checkpoints.

    def state(self) -> dict[str, Any]:
        """The state to resume from; on the run's event loop, or when it has ended."""
        return {
            "wall_seconds": self.wall_seconds,
            "counts": [[actor, name, total] for (actor, name), total in self._by_actor.items()],
            "last": dict(self._last),
            "solved": self.solved,
            "distributions": self._distributions.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore `state`, before the first report. A limit already passed ends the run at the next one."""
        self._seconds_before = state["wall_seconds"]
        for actor, name, total in state["counts"]:
            self._by_actor[actor, name] = total
            self.counts[name] = self.counts.get(name, 0) + total
        self._last = dict(state["last"])
        self.solved = state["solved"]
        self._distributions.load_state(state["distributions"])
        self._counts_in_all = sum(self.counts.values())
        self._next_row = (self._counts_in_all // ROW_EVERY_COUNTS + 1) * ROW_EVERY_COUNTS
        self._row_at, self._row_counts = self.wall_seconds, dict(self.counts)
