"""The live view: redrawn in place on a terminal, four times a second, with log lines above it."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections import deque
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from actorq.actors import SystemStatistics
from actorq.run.open_run import Run
from actorq.run.records.recorder import Progress

from .dashboard import WIDEST, Dashboard, draw
from .exit_report import how_it_ended
from .logs import PROGRESS
from .views import LINE_EVERY_SECONDS, in_words

REDRAWN_EVERY_SECONDS = 0.25

log = logging.getLogger(PROGRESS)


class Above(io.TextIOBase):
    """Standard output and error while the view is there: keeps what any thread writes, for the view's own
    thread to print above it. Rich prints for other threads at once, and their lines and the view collide.
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
        """All whole lines so far, less the last line's end."""
        parts = [self._parts.popleft() for _ in range(len(self._parts))]
        whole, _, rest = "".join(parts).rpartition("\n")
        if rest:
            self._parts.appendleft(rest)
        return whole


class LiveView:
    """A `View` on a terminal; progress lines go to the log as well, for run.log."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._console = Console(file=sys.stderr)
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._above = Above()
        self._redirected = ExitStack()
        self._returns: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self._seen: tuple[SystemStatistics, float] | None = None
        self._stopping = False
        self._next_line = LINE_EVERY_SECONDS

    def __enter__(self) -> Self:
        self._redirected.enter_context(redirect_stdout(self._above))
        self._redirected.enter_context(redirect_stderr(self._above))
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def follow(self) -> None:
        began = time.monotonic()
        async for progress in self._run.progress(REDRAWN_EVERY_SECONDS):
            self._redraw(progress)
            if time.monotonic() - began >= self._next_line:
                self._next_line += LINE_EVERY_SECONDS
                log.info(in_words(progress))

    def say(self, words: str) -> None:
        self._stopping = True
        self._console.print(words, highlight=False, markup=False)

    def close(self) -> None:
        if self._live.is_started:
            progress = self._run.progress_now()
            self._redraw(progress)
            self._live.stop()
            self._redirected.close()
            log.info(in_words(progress))

    def _redraw(self, progress: Progress) -> None:
        if lines := self._above.take():
            self._console.print(Text.from_ansi(lines))
        self._note_returns()
        statistics = self._run.statistics()
        if statistics is not None:
            self._note_rates(statistics)
        picture = Dashboard(
            topology=self._run.plan.topology,
            progress=progress,
            statistics=statistics,
            returns=self._returns,
            handled_per_second=self._rates,
            state=self._state(progress),
            ended=self._run.summary is not None,
        )
        width = min(self._console.width - len("^C"), WIDEST)  # its echo must not wrap, or a line stays behind
        self._live.update(draw(picture, width), refresh=True)

    def _state(self, progress: Progress) -> str:
        if self._run.summary is not None:
            return how_it_ended(self._run.summary)
        if self._stopping or progress.stopped_by is not None:
            return "stopping"
        return "" if self._run.statistics() is not None else "starting"

    def _note_returns(self) -> None:
        """Each explorer's own return, kept while no episode of its ends."""
        for name, value in self._run.newest_row().items():
            reading, _, actor = name.partition("/")
            if actor and reading == "episode_return":
                self._returns[actor] = value

    def _note_rates(self, statistics: SystemStatistics) -> None:
        """Messages handled per second by each actor, between the newest readings and those before."""
        now = time.monotonic()
        if self._seen is None:
            self._seen = statistics, now
        before, at = self._seen
        if statistics is not before:
            handled = {actor.name: actor.mailbox.handled for actor in before.actors}
            self._rates = {
                actor.name: (actor.mailbox.handled - handled.get(actor.name, 0)) / (now - at)
                for actor in statistics.actors
            }
            self._seen = statistics, now
