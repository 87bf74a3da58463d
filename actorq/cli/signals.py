"""Handling of SIGINT (Ctrl-C) and SIGTERM during a run."""

from __future__ import annotations

import os
import signal

import anyio
from anyio.abc import TaskStatus

from actorq.run.open_run import Run

from .views import View


class SignalHandler:
    """The first signal stops the run in order, with a checkpoint; the second skips the checkpoint; the third
    ends the process at once.
    """

    def __init__(self, run: Run, view: View) -> None:
        self.status = 0
        """128 plus the first signal's number, as in a shell."""
        self._run = run
        self._view = view

    async def handle(self, *, task_status: TaskStatus[None]) -> None:
        """Handle signals until cancelled."""
        count = 0
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                count += 1
                self._react(count, number)

    def _react(self, count: int, number: signal.Signals) -> None:
        self.status = self.status or 128 + number
        if count == 1:
            self._view.say("stopping; once more skips the checkpoint")
            self._run.stop("interrupt")
        elif count == 2:
            self._view.say("stopping without a checkpoint; once more ends the process at once")
            self._run.stop("interrupt", checkpoint=False)
        else:
            self._view.close()
            os._exit(self.status)  # threads of actors that hang would keep Python from exiting
