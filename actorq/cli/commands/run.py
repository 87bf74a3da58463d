"""`actorq run`: start a run, show how it goes, heed signals, say what came of it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import msgspec

from actorq.cli.exit_report import outcome
from actorq.cli.logs import Logs
from actorq.cli.main import DONE, FAILED
from actorq.cli.process_start import process_started
from actorq.cli.signals import SignalScope
from actorq.cli.views import View, can_be_live, make_view
from actorq.run.open_run import Run, RunFailed, going, prepare
from actorq.run.records.folder import RunFolderError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `actorq run` was told."""

    source: str | None
    overrides: tuple[str, ...] = ()
    transport: str | None = None
    backend: Literal["asyncio", "trio"] | None = None
    out: Path | None = None
    resume: Path | None = None
    json: bool = False


def run_topology(order: RunOptions) -> int:
    """Run it to its end; returns the exit status. Raises what `prepare` raises, before anything starts."""
    started = process_started()
    with redirect_stdout(sys.stderr):  # what actors print; standard output is the summary's alone
        run, status = anyio.run(_run, order, started)
    if run.summary is not None:
        if order.json:
            print(msgspec.json.encode(run.summary).decode())
        else:
            print(outcome(run.summary, run.folder), end="")
    return status


async def _run(order: RunOptions, started: float) -> tuple[Run, int]:
    live = can_be_live()
    with Logs(colors=live, progress_lines=not live) as logs:
        run = prepare(
            order.source,
            overrides=order.overrides,
            transport=order.transport,
            backend=order.backend,
            out=order.out,
            resume=order.resume,
            started=started,
        )
        try:
            logs.keep_in(run.folder.log)
        except OSError as error:
            raise RunFolderError(f"{run.folder.log}: can't be written: {error.strerror}") from error
        with make_view(run, live) as view:
            status = await _to_its_end(run, view)
    return run, status


async def _to_its_end(run: Run, view: View) -> int:
    ending = SignalScope(run, view)
    error: Exception | None = None
    async with anyio.create_task_group() as beside:
        await beside.start(ending.heed_signals)
        beside.start_soon(view.follow)
        try:
            async with going(run):
                await run.wait()
        except Exception as raised:  # kept out of the task group, which would wrap it in an ExceptionGroup
            error = raised
        beside.cancel_scope.cancel()
    if isinstance(error, RunFailed):
        view.say(f"actorq: the run failed: {error}")
        return FAILED
    if error is not None:
        raise error
    return ending.status if run.summary is not None and run.summary.stopped_by == "interrupt" else DONE
