"""What Ctrl-C and SIGTERM do to a run."""

from __future__ import annotations

import os
import signal

import anyio
from anyio.abc import TaskStatus

from actorq.run.open_run import Run

from .views import View


class SignalScope:
    """The first signal stops the run in order, with a checkpoint; the second skips the checkpoint; the third
    ends the process at once.
    """

    def __init__(self, run: Run, view: View) -> None:
        self.status = 0
        """128 and the first signal's number, as a shell has it."""
        self._run = run
        self._view = view

    async def heed_signals(self, *, task_status: TaskStatus[None]) -> None:
        """Heed them until cancelled."""
        heard = 0
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                heard += 1
                self._heed(heard, number)

    def _heed(self, heard: int, number: signal.Signals) -> None:
        self.status = self.status or 128 + number
        if heard == 1:
            self._view.say("stopping; once more skips the checkpoint")
            self._run.stop("interrupt")
        elif heard == 2:
            self._view.say("stopping without a checkpoint; once more ends the process at once")
            self._run.stop("interrupt", checkpoint=False)
        else:
            self._view.close()
            os._exit(self.status)  # threads of actors that hang would keep Python from exiting
