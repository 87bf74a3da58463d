"""Live view: redrawn in place on a terminal, four times a second, with log lines above it."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections import deque
from contextlib import ExitStack, redirect_stderr, redirect_stdout

from rich.console import Console
from rich.live import Live
from rich.text import Text

from actorq.actors import SystemStatistics
from actorq.run.open_run import Run
from actorq.run.records.recorder import Progress

from .dashboard import WIDEST, Dashboard, draw
from .exit_report import how_it_ended
from .formatting import progress_line
from .logs import PROGRESS, PROGRESS_LINE_SECONDS

REDRAWN_EVERY_SECONDS = 0.25

log = logging.getLogger(PROGRESS)


class LinesAbove(io.TextIOBase):
    """Standard output and error while the live view is shown: buffers what any thread writes, for the view's
    own thread to print above it. Rich would print for other threads at once, into the middle of the view.
    """

    def __init__(self) -> None:
        self._parts: deque[str] = deque()

    def write(self, text: str) -> int:
        self._parts.append(text)
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return True

    def take(self) -> str:
        """All complete lines so far, without the final newline."""
        parts = [self._parts.popleft() for _ in range(len(self._parts))]
        whole, _, rest = "".join(parts).rpartition("\n")
        if rest:
            self._parts.appendleft(rest)
        return whole


class LiveView:
    """A `View` on a terminal, shown from the start. Progress lines go to the log as well, for run.log."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._console = Console(file=sys.stderr)
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._above = LinesAbove()
        self._redirected = ExitStack()
        self._returns: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self._previous: tuple[SystemStatistics, float] | None = None
        self._stopping = False
        self._next_line = PROGRESS_LINE_SECONDS
        self._redirected.enter_context(redirect_stdout(self._above))
        self._redirected.enter_context(redirect_stderr(self._above))
        self._live.start()

    async def follow(self) -> None:
        began = time.monotonic()
        async for progress in self._run.progress(REDRAWN_EVERY_SECONDS):
            self._redraw(progress)
            if time.monotonic() - began >= self._next_line:
                self._next_line += PROGRESS_LINE_SECONDS
                log.info(progress_line(progress))

    def say(self, line: str) -> None:
        self._stopping = True
        self._console.print(line, highlight=False, markup=False)

    def close(self) -> None:
        if self._live.is_started:
            progress = self._run.progress_now()
            self._redraw(progress)
            self._live.stop()
            self._redirected.close()
            log.info(progress_line(progress))

    def _redraw(self, progress: Progress) -> None:
        if lines := self._above.take():
            self._console.print(Text.from_ansi(lines))
        self._note_returns()
        statistics = self._run.statistics()
        if statistics is not None:
            self._note_rates(statistics)
        dashboard = Dashboard(
            topology=self._run.plan.topology,
            progress=progress,
            statistics=statistics,
            returns=self._returns,
            handled_per_second=self._rates,
            state=self._state(progress),
            ended=self._run.summary is not None,
        )
        width = min(self._console.width - len("^C"), WIDEST)  # a wrapped ^C would leave a line behind
        self._live.update(draw(dashboard, width), refresh=True)

    def _state(self, progress: Progress) -> str:
        if self._run.summary is not None:
            return how_it_ended(self._run.summary)
        if self._stopping or progress.stopped_by is not None:
            return "stopping"
        return "" if self._run.statistics() is not None else "starting"

    def _note_returns(self) -> None:
        """Each explorer's latest mean return, kept over intervals in which it ends no episode."""
        for name, value in self._run.newest_row().items():
            reading, _, actor = name.partition("/")
            if actor and reading == "episode_return":
                self._returns[actor] = value

    def _note_rates(self, statistics: SystemStatistics) -> None:
        """Messages handled per second by each actor, between the two newest statistics."""
        now = time.monotonic()
        if self._previous is None:
            self._previous = statistics, now
        before, at = self._previous
        if statistics is not before:
            handled = {actor.name: actor.mailbox.handled for actor in before.actors}
            self._rates = {
                actor.name: (actor.mailbox.handled - handled.get(actor.name, 0)) / (now - at)
                for actor in statistics.actors
            }
            self._previous = statistics, now
