"""Progress display of a run: a live view on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from typing import Protocol

from actorq.run.open_run import Run

from .formatting import progress_line
from .live_view import LiveView
from .logs import PROGRESS, PROGRESS_LINE_SECONDS

log = logging.getLogger(PROGRESS)


class View(Protocol):
    """Progress display, shown until it is closed."""

    async def follow(self) -> None:
        """Show the run's progress until it ends. Cancelled, the view stays as it is."""

    def say(self, line: str) -> None:
        """Print a line that is not for the log."""

    def close(self) -> None:
        """Show the final state; a second call does nothing."""


def can_be_live() -> bool:
    """Whether standard error is a terminal on which lines can be redrawn."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def make_view(run: Run, live: bool) -> View:
    """A live view, or lines."""
    return LiveView(run) if live else PlainView(run)


class PlainView:
    """A line of progress every few seconds, through the log."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def follow(self) -> None:
        async for progress in self._run.progress(PROGRESS_LINE_SECONDS):
            log.info(progress_line(progress))

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass
