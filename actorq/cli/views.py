"""How a run is shown while it goes on: a live view on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from types import TracebackType
from typing import Protocol, Self

from actorq.run.formatting import duration
from actorq.run.open_run import Run
from actorq.run.records.recorder import Progress

from .formatting import figure, gradients, rate, task_returns
from .logs import PROGRESS

LINE_EVERY_SECONDS = 5.0

log = logging.getLogger(PROGRESS)


class View(Protocol):
    """What shows a run; a context that it ends with."""

    async def follow(self) -> None:
        """Show the run's progress until it ends. Cancelled, the view stays as it is."""

    def say(self, words: str) -> None:
        """Tell something that doesn't belong into the log."""

    def close(self) -> None:
        """Show how the run stands for the last time, and leave it at that; a second call does nothing."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def can_be_live() -> bool:
    """Whether standard error is a terminal that a picture can be redrawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def make_view(run: Run, live: bool) -> View:
    """A live view, or lines."""
    if live:
        from .live_view import LiveView

        return LiveView(run)
    return PlainView(run)


class PlainView:
    """A line of progress every few seconds, through the log."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def follow(self) -> None:
        async for progress in self._run.progress(LINE_EVERY_SECONDS):
            log.info(in_words(progress))

    def say(self, words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def in_words(progress: Progress) -> str:
    """One line: elapsed time, counts with their rates, the readings that tell most."""
    words = [duration(progress.wall_seconds)]
    for name, what in (("env_steps", "env steps"), ("updates", "updates")):
        if name in progress.counts:
            words.append(f"{what} {progress.counts[name]:,} ({rate(progress.rates.get(name, 0.0))})")
    if counts_by_outcome := gradients(progress.counts):
        words.append(f"gradients {counts_by_outcome}")
    if returns := task_returns(progress):
        words.append("return " + ", ".join(f"{task} {figure(value)}" for task, value in returns.items()))
    elif "episode_return" in progress.gauges:
        words.append(f"return {figure(progress.gauges['episode_return'])}")
    if "loss" in progress.gauges:
        words.append(f"loss {figure(progress.gauges['loss'])}")
    if progress.tasks:
        evaluated = (f"{task} {figure(its.return_mean)}" for task, its in progress.tasks.items())
        words.append("evaluation " + ", ".join(evaluated))
    elif progress.evaluation is not None:
        evaluation = progress.evaluation
        words.append(f"evaluation {figure(evaluation.return_mean)} ± {figure(evaluation.return_std)}")
    return "  ".join(words)
