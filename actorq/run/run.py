"""A run in progress: its readings, checkpoints and files, and how it is stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from actorq.actors import ActorDied, ActorFailed, ActorqError, State, SystemStatistics
from actorq.launchers.thread_engine import ThreadEngine
from actorq.topology import Plan, Source
from actorq.topology.check.members import called
from actorq.topology.schema import Backend

from .records import checkpoint
from .records.distributions import write_distributions
from .records.folder import RunFolder
from .records.lock import FolderLock
from .records.metrics import Metrics
from .records.recorder import Progress, Recorder, Row
from .records.summary import Summary, summarize, write_summary
from .refs import OutsideGroup, OutsideRef
from .report.page import write_report

log = logging.getLogger("actorq.run")


class RunFailed(ActorqError):
    """An actor crashed past its restart limits and the run was stopped; the actor's error is the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The arguments of `open_run`, which describes them."""

    source: Source | None = None
    overrides: Sequence[str] = ()
    transport: str | None = None
    backend: Backend | None = None
    out: str | Path | None = None
    resume: str | Path | None = None
    started: float | None = None


class Run:
    """A run that has been started; `open_run` makes it. Its methods are for the application's event loop."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        lock: FolderLock,
        options: RunOptions,
        states: dict[str, State] | None,
        recorded: dict[str, Any] | None,
    ) -> None:
        """Releases `lock` at the run's end. `states` and `recorded`: the actors' and the recorder's from a
        checkpoint. Raises OSError if the folder can't be written.
        """
        self.plan = plan
        self.folder = folder
        self.summary: Summary | None = None
        """None until the run has ended."""
        self._lock = lock
        self._began = time.monotonic() if options.started is None else options.started
        topology = plan.topology
        self._recorder = Recorder(
            topology.stop, topology.deterministic, self._limit_reached, self._elapsed, self._write_row
        )
        if recorded is not None:
            self._recorder.load_state(recorded)
        resumed_at = self._recorder.wall_seconds if recorded is not None else None
        self._metrics = Metrics(folder, resumed_at)
        self._engine = ThreadEngine(
            plan,
            self._recorder,
            backend=options.backend or topology.backend,
            states=states,
            join_token=folder.join_token,
            tick=self._tick,
            tick_seconds=topology.run.metrics_every_seconds,
        )
        self._refs = {spec.name: OutsideRef(spec.name, self._engine) for spec in plan.specs}
        self._stopped_by = ""
        self._keep_checkpoint = True
        self._saving = anyio.Lock()
        self._newest_row: Row = {}
        self._failure: RunFailed | None = None
        self._failure_seen = False
        self._started, self._ended = anyio.Event(), anyio.Event()

    # For applications.

    def __getitem__(self, name: str) -> OutsideRef:
        """The actor of that name: `explorer.0` for a member of an actor with a count, `edge.0.learner` for
        one in a repeated group. Raises KeyError.
        """
        if name in self._refs:
            return self._refs[name]
        members = called(name, self.plan.topology)
        if members:
            raise KeyError(
                f"{name!r} has {len(members)} members, {members[0]} and so on; or use group({name!r})"
            )
        raise KeyError(f"no actor {name!r}; there are {', '.join(self._refs)}")

    def group(self, name: str) -> OutsideGroup:
        """All members of the actor declared under that name; or of an actor in one instance of a repeated
        group, `edge.1.explorer`. Raises KeyError.
        """
        members = called(name, self.plan.topology)
        if not members:
            raise KeyError(f"no actor {name!r}; there are {', '.join(self.plan.topology.actors)}")
        return OutsideGroup([self._refs[member] for member in members], self._engine)

    def progress(self, every_seconds: float = 1.0) -> AsyncIterator[Progress]:
        """The run's progress at intervals, and once more at its end; iteration may stop at any time."""
        return _Readings(self, every_seconds)

    def progress_now(self) -> Progress:
        """The run's current progress."""
        return self._recorder.progress()

    def statistics(self) -> SystemStatistics | None:
        """The actors' newest statistics, at most one interval of the metrics old; None before the first."""
        return self._engine.statistics

    def newest_row(self) -> Row:
        """The newest row of the metrics, empty before the first; read only."""
        return self._newest_row

    @property
    def has_ended(self) -> bool:
        """Whether all files are written, so that `wait` returns at once."""
        return self._ended.is_set()

    async def ended(self) -> None:
        """Wait until the run has ended in any way, with all files written. Cancelled, the run continues."""
        await self._ended.wait()

    async def wait(self) -> Summary:
        """Wait until the run has ended and all files are written; returns the summary. Raises RunFailed.

        Cancelled, the run continues.
        """
        await self._ended.wait()
        if self._failure is not None:
            self._failure_seen = True
            raise self._failure
        assert self.summary is not None
        return self.summary

    def stop(self, reason: str = "request", *, checkpoint: bool = True) -> None:
        """Begin an orderly stop, without waiting for it. `checkpoint=False` skips the last checkpoint."""
        self._stopped_by = self._stopped_by or reason
        self._keep_checkpoint = self._keep_checkpoint and checkpoint
        self._engine.stop()

    async def checkpoint(self) -> Path:
        """Write a checkpoint now; returns its folder.

        Raises CheckpointError or OSError if none can be made, ActorDied once the run has ended. Cancelled, it
        is either complete or not written at all.
        """
        async with self._saving:
            states, recorded = await self._engine.call(self._states)
            return await anyio.to_thread.run_sync(self._save, states, recorded)

    # Start, and the task that lasts until the end.

    async def start(self, tasks: TaskGroup) -> None:
        """Start the actors, and a task in `tasks` that lasts to the run's end, shielded from cancellation.

        Raises RunFailed if an actor can't start. Cancelled, the actors continue until `stop`.
        """
        tasks.start_soon(self._run_to_end)
        await self._started.wait()
        if self._ended.is_set():
            self.raise_unseen_failure()

    async def _run_to_end(self) -> None:
        try:
            with anyio.CancelScope(shield=True):
                try:
                    await self._run_actors()
                except Exception as error:
                    self._note_failure(error)
                try:
                    async with self._saving:
                        await anyio.to_thread.run_sync(self._write_end)
                except Exception as error:
                    self._note_failure(error)
        finally:  # also when asyncio's loop is torn down, which ignores shields
            self._lock.release()
            self._ended.set()
            self._started.set()

    async def _run_actors(self) -> None:
        topology = self.plan.topology
        error: Exception | None = None
        async with anyio.create_task_group() as tasks:
            if topology.stop.wall_seconds is not None:
                tasks.start_soon(self._stop_after, topology.stop.wall_seconds)
            if not topology.deterministic:  # states taken by the clock would differ from run to run
                tasks.start_soon(self._keep_checkpoints, topology.run.checkpoint_every_seconds)
            try:
                await self._engine.run(self._started.set)
            except Exception as raised:  # kept out of the task group, which would wrap it
                error = raised
            tasks.cancel_scope.cancel()
        if error is not None:
            raise error

    def _note_failure(self, error: Exception) -> None:
        if self._failure is not None:
            return  # a consequence of the first failure
        if isinstance(error, ActorFailed):  # its crash has been logged, with its traceback
            self._failure = RunFailed(str(error))
            self._failure.__cause__ = error.__cause__
        else:
            self._failure = RunFailed(f"the run itself failed: {type(error).__name__}: {error}")
            self._failure.__cause__ = error
            log.error("the run itself failed", exc_info=error)

    def _write_end(self) -> None:
        self._write_row(self._row())
        self._metrics.close()
        states = self._engine.final_states
        if states and self._keep_checkpoint:
            try:
                self._save(states, self._recorder.state())
            except (OSError, checkpoint.CheckpointError) as error:  # the summary is still to be written
                self._note_failure(error)
        topology, statistics = self.plan.topology, self._engine.statistics
        reason = "failure" if self._failure is not None else self._stopped_by or "finished"
        self.summary = summarize(
            topology.name, topology.seed, reason, self._recorder, statistics or SystemStatistics((), 0, 0)
        )
        write_summary(self.folder.summary, self.summary)
        if distributions := self._recorder.distributions():
            write_distributions(self.folder.histograms, distributions)
        write_report(self.folder)

    def raise_unseen_failure(self) -> None:
        """Raise the run's failure if `wait` hasn't."""
        if self._failure is not None and not self._failure_seen:
            self._failure_seen = True
            raise self._failure

    async def _stop_after(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds - self._recorder.wall_seconds))
        self.stop("wall_seconds")

    async def _keep_checkpoints(self, every_seconds: float) -> None:
        await self._started.wait()
        while True:
            await anyio.sleep(every_seconds)
            try:
                await self.checkpoint()
            except ActorDied:
                return  # the run has ended
            except Exception as error:
                log.error("no checkpoint could be written, the run continues: %s", error)

    def _save(self, states: dict[str, State], recorded: dict[str, Any]) -> Path:
        meta = {"name": self.plan.topology.name, "recorder": recorded}
        return checkpoint.save(self.folder.checkpoints, states, meta)

    # Called on the actors' loop.

    async def _states(self) -> tuple[dict[str, State], dict[str, Any]]:
        """The states of all actors and the recorder's at the same moment."""
        states = await self._engine.system.states()
        return states, self._recorder.state()

    def _limit_reached(self, reason: str) -> None:
        self._stopped_by = self._stopped_by or reason
        self._engine.stop_now()

    def _tick(self) -> None:
        if not self.plan.topology.deterministic:
            self._write_row(self._row())

    def _row(self) -> Row:
        row, statistics = self._recorder.row(), self._engine.statistics
        if statistics is not None and statistics.transport.connections:
            traffic = statistics.transport
            row["wire_bytes"], row["wire_frames"] = float(traffic.bytes_out), float(traffic.frames_out)
            row["wire_frames_resent"] = float(traffic.frames_resent)
            row["wire_refused"] = float(traffic.refused)
        return row

    def _write_row(self, row: Row) -> None:
        self._newest_row = row
        self._metrics.write(row, self._recorder.newest)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


class _Readings(AsyncIterator[Progress]):
    """Progress at intervals. Not a generator: trio warns of those that a `break` leaves unfinished."""

    def __init__(self, run: Run, every_seconds: float) -> None:
        self._run = run
        self._every_seconds = every_seconds

    async def __anext__(self) -> Progress:
        if self._run.has_ended:
            raise StopAsyncIteration
        with anyio.move_on_after(self._every_seconds):
            await self._run.ended()
        return self._run.progress_now()
