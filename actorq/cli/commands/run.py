"""`actorq run`: start a run, show its progress, stop it on signals, print its summary."""

from __future__ import annotations

import sys
from contextlib import closing, redirect_stdout
from dataclasses import replace

import anyio
import msgspec

from actorq.cli.errors import DONE, FAILED
from actorq.cli.exit_report import exit_report
from actorq.cli.logs import Logs
from actorq.cli.process_start import process_started
from actorq.cli.signals import SignalHandler
from actorq.cli.views import View, can_be_live, make_view
from actorq.run.open_run import Run, RunFailed, RunOptions, prepare, running
from actorq.run.records.folder import RunFolderError


def run_topology(options: RunOptions, *, json: bool) -> int:
    """Run it to its end; returns the exit status. Raises what `prepare` raises, before anything starts."""
    options = replace(options, started=process_started())
    with redirect_stdout(sys.stderr):  # what actors print; standard output is the summary's alone
        run, status = anyio.run(_run, options)
    if run.summary is not None:
        if json:
            print(msgspec.json.encode(run.summary).decode())
        else:
            print(exit_report(run.summary, run.folder), end="")
    return status


async def _run(options: RunOptions) -> tuple[Run, int]:
    live = can_be_live()
    with Logs(colors=live, progress_lines=not live) as logs:
        run = prepare(options)
        try:
            logs.keep_in(run.folder.log)
        except OSError as error:
            raise RunFolderError(f"{run.folder.log}: can't be written: {error.strerror}") from error
        with closing(make_view(run, live)) as view:
            status = await _run_to_end(run, view)
    return run, status


async def _run_to_end(run: Run, view: View) -> int:
    signals = SignalHandler(run, view)
    error: Exception | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(signals.handle)
        tasks.start_soon(view.follow)
        try:
            async with running(run):
                await run.wait()
        except Exception as raised:  # kept out of the task group, which would wrap it in an ExceptionGroup
            error = raised
        tasks.cancel_scope.cancel()
    if isinstance(error, RunFailed):
        view.say(f"actorq: the run failed: {error}")
        return FAILED
    if error is not None:
        raise error
    return signals.status if run.summary is not None and run.summary.stopped_by == "interrupt" else DONE
