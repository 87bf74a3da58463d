"""One run: started, watched, stopped, and what it leaves behind."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from actorq.actors import ActorFailed, ActorqError, State, SystemStatistics
from actorq.engines.here import Backend, Here
from actorq.topology import Plan, Source, check
from actorq.topology.write import to_toml

from . import checkpoint
from .folder import RunFolder, RunFolderError, write_whole
from .metrics import Metrics
from .recorder import Progress, Recorder, Row
from .refs import OutsideGroup, OutsideRef
from .report import write_report
from .summary import Summary, summarize, write_summary

log = logging.getLogger("actorq.run")


class RunFailed(ActorqError):
    """An actor crashed past its restart limits and the run was stopped; the actor's error is the cause."""


class Run:
    """A run that has been started; `open_run` makes it."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        *,
        backend: Backend | None = None,
        states: dict[str, State] | None = None,
        recorded: dict[str, Any] | None = None,
        started: float | None = None,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.summary: Summary | None = None
        """Once ended: what came of it."""
        self._began = time.monotonic() if started is None else started
        topology = plan.topology
        self._recorder = Recorder(
            topology.stop, topology.deterministic, self._limit_reached, self._elapsed, self._write_row
        )
        if recorded is not None:
            self._recorder.load_state(recorded)
        resumed_at = self._recorder.wall_seconds if recorded is not None else None
        self._metrics = Metrics(folder, resumed_at)
        self._engine = Here(
            plan,
            self._recorder,
            backend=backend or topology.backend,
            states=states,
            tick=self._tick,
            tick_seconds=topology.run.metrics_every_seconds,
        )
        self._stopped_by = ""
        self._keep_checkpoint = True
        self._newest_row: Row = {}
        self._failure: RunFailed | None = None
        self._failure_seen = False
        self._ended = anyio.Event()

    # What an application uses.

    def __getitem__(self, name: str) -> OutsideRef | OutsideGroup:
        """The actor of that name, or all members of one with a count. Raises KeyError."""
        names = [spec.name for spec in self.plan.specs]
        if name in names:
            return OutsideRef(name, self._engine)
        members = [member for member in names if member.rpartition(".")[0] == name]
        if not members:
            raise KeyError(f"no actor {name!r}; there are {', '.join(names)}")
        return OutsideGroup([OutsideRef(member, self._engine) for member in members])

    async def progress(self, every_seconds: float = 1.0) -> AsyncIterator[Progress]:
        """How the run stands, now and then; ends after the run has."""
        while not self._ended.is_set():
            with anyio.move_on_after(every_seconds):
                await self._ended.wait()
            yield self._recorder.progress()

    def progress_now(self) -> Progress:
        """How the run stands."""
        return self._recorder.progress()

    def statistics(self) -> SystemStatistics | None:
        """The actors' newest readings, at most one interval of the metrics old."""
        return self._engine.statistics

    def newest_row(self) -> Row:
        """The newest row of the metrics, empty before the first; not to be changed."""
        return self._newest_row

    async def wait(self) -> Summary:
        """Return the summary when the run has ended and all is written. Raises RunFailed if it failed.

        Cancelled, the run goes on.
        """
        await self._ended.wait()
        if self._failure is not None:
            self._failure_seen = True
            raise self._failure
        assert self.summary is not None
        return self.summary

    def stop(self, reason: str = "request", *, checkpoint: bool = True) -> None:
        """Ask the run to stop in order; `wait` tells when it has. `checkpoint=False` skips the last one."""
        self._stopped_by = self._stopped_by or reason
        self._keep_checkpoint = self._keep_checkpoint and checkpoint
        self._engine.stop()

    async def checkpoint(self) -> Path:
        """Write a checkpoint now; returns its folder."""
        states = await self._engine.call(self._engine.system.states)
        return await anyio.to_thread.run_sync(self._save, states)

    # How it goes on.

    async def start(self) -> None:
        """Start the actors. Raises RunFailed if one can't. Cancelled, they are stopped."""
        try:
            await self._engine.start()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                if isinstance(error, Exception):
                    self._note_failure(error)
                self._stopped_by = self._stopped_by or "interrupt"
                await self._finish()
            if self._failure is not None:
                raise self._failure from self._failure.__cause__
            raise

    def watch(self, tasks: TaskGroup) -> None:
        """Begin what goes on beside the actors until the run has ended, whoever is cancelled."""
        tasks.start_soon(self._go_on)

    async def _go_on(self) -> None:
        topology = self.plan.topology
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as beside:
                if topology.stop.wall_seconds is not None:
                    beside.start_soon(self._stop_after, topology.stop.wall_seconds)
                if not topology.deterministic:  # states taken by the clock would not be the same twice
                    beside.start_soon(self._keep_checkpoints, topology.run.checkpoint_every_seconds)
                try:
                    await self._engine.wait()
                except Exception as error:
                    self._note_failure(error)
                beside.cancel_scope.cancel()
            await self._finish()

    def _note_failure(self, error: Exception) -> None:
        if self._failure is not None:
            return  # what came of it, not why
        if isinstance(error, ActorFailed):  # its crash has been logged, with its traceback
            self._failure = RunFailed(str(error))
            self._failure.__cause__ = error.__cause__
        else:
            self._failure = RunFailed(f"the run itself failed: {type(error).__name__}: {error}")
            self._failure.__cause__ = error
            log.error("the run itself failed", exc_info=error)

    async def _finish(self) -> None:
        """Close and write all; whatever goes wrong in it, those who wait are told."""
        try:
            await self._engine.close()
            await anyio.to_thread.run_sync(self._write_end)
        except Exception as error:
            self._note_failure(error)
        finally:
            self._ended.set()

    def _write_end(self) -> None:
        self._write_row(self._recorder.row())
        self._metrics.close()
        states = self._engine.final_states
        if self._keep_checkpoint and states:
            try:
                self._save(states)
            except (OSError, checkpoint.CheckpointError) as error:  # the summary is written all the same
                self._note_failure(error)
        topology, statistics = self.plan.topology, self._engine.statistics
        reason = self._recorder.stopped_by or self._stopped_by or "finished"
        if self._failure is not None:
            reason = "failure"
        self.summary = summarize(
            topology.name, topology.seed, reason, self._recorder, statistics or SystemStatistics((), 0, 0)
        )
        write_summary(self.folder.summary, self.summary)
        write_report(self.folder)

    def raise_unseen_failure(self) -> None:
        """Leaving the run must not hide that it failed."""
        if self._failure is not None and not self._failure_seen:
            raise self._failure

    async def _stop_after(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds - self._recorder.wall_seconds))
        self.stop("wall_seconds")

    async def _keep_checkpoints(self, every_seconds: float) -> None:
        while True:
            await anyio.sleep(every_seconds)
            try:
                await self.checkpoint()
            except (OSError, checkpoint.CheckpointError) as error:
                log.error("no checkpoint could be written, the run goes on: %s", error)

    def _save(self, states: dict[str, State]) -> Path:
        meta = {"name": self.plan.topology.name, "recorder": self._recorder.state()}
        return checkpoint.save(self.folder.checkpoints, states, meta)

    # Called on the actors' loop.

    def _limit_reached(self, reason: str) -> None:
        self._engine.stop_now()

    def _tick(self) -> None:
        if not self.plan.topology.deterministic:
            self._write_row(self._recorder.row())

    def _write_row(self, row: Row) -> None:
        self._newest_row = row
        self._metrics.write(row)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


@asynccontextmanager
async def open_run(
    source: Source | None = None,
    *,
    overrides: Sequence[str] = (),
    transport: str | None = None,
    backend: Backend | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    started: float | None = None,
) -> AsyncIterator[Run]:
    """Start a run of a topology, on a thread of its own, from any trio or asyncio application.

    `source` is a topology file's path, a recipe's name, a dict or a Topology; or leave it out and name the
    folder of an earlier run to `resume` from its last checkpoint. The run's folder is `out`, which must be
    empty or absent, or else runs/<name>-<n>. `started` is the `time.monotonic()` from which `wall_seconds` is
    counted.

    Raises TopologyError, RunFolderError or CheckpointError before anything starts; RunFailed, with the
    actor's error as its cause, if an actor crashes past its limits. Leaving the block stops the run.
    Cancelled, the run is stopped in order: within two seconds, beyond writing what must be written.
    """
    run = prepare(
        source,
        overrides=overrides,
        transport=transport,
        backend=backend,
        out=out,
        resume=resume,
        started=started,
    )
    async with going(run):
        yield run


@asynccontextmanager
async def going(run: Run) -> AsyncIterator[None]:
    """Start what `prepare` made; leaving the block stops it. Raises, and is cancelled, as `open_run`."""
    await run.start()
    error: Exception | None = None
    async with anyio.create_task_group() as tasks:
        run.watch(tasks)
        try:
            yield
        except Exception as raised:  # kept out of the task group, which would wrap it in an ExceptionGroup
            error = raised
        finally:
            run.stop()
        with anyio.CancelScope(shield=True):
            await run._ended.wait()
    if error is not None:
        raise error
    run.raise_unseen_failure()


def prepare(
    source: Source | None = None,
    *,
    overrides: Sequence[str] = (),
    transport: str | None = None,
    backend: Backend | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    started: float | None = None,
) -> Run:
    """Check all that `open_run` takes and make the run's folder, but start nothing.

    What is wrong with the arguments is raised here (TopologyError, RunFolderError, CheckpointError), and what
    goes wrong in the run only later.
    """
    states, recorded = None, None
    if resume is not None:
        if source is not None or out is not None:
            raise ValueError("a resumed run has its topology and its folder already")
        folder = RunFolder.open(Path(resume))
        plan = check(folder.topology, overrides, transport=transport)
        path = checkpoint.latest(folder.checkpoints)
        if path is None:
            raise checkpoint.CheckpointError(f"{folder.path}: there is no whole checkpoint to go on from")
        states, meta = checkpoint.load(path)
        recorded = meta["recorder"]
    elif source is not None:
        plan = check(source, overrides, transport=transport)
        name = plan.topology.name
        folder = RunFolder.at(Path(out)) if out is not None else RunFolder.create(Path("runs"), name)
    else:
        raise ValueError("open_run needs a topology, or a run to resume")
    try:
        if resume is None or overrides:
            write_whole(folder.topology, to_toml(plan.topology).encode())
        return Run(plan, folder, backend=backend, states=states, recorded=recorded, started=started)
    except OSError as error:
        raise RunFolderError(f"{folder.path}: can't be written: {error.strerror}") from error


def run(source: Source | None = None, **options: Any) -> Summary:
    """Run a topology to its declared end, and block until then; takes and raises what `open_run` does.

    For scripts: it starts an event loop. An async application uses `open_run`.
    """

    async def whole_run() -> Summary:
        async with open_run(source, **options) as opened:
            return await opened.wait()

    return anyio.run(whole_run)
