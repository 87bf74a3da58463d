"""Opening a run: from a script, or inside any async application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from actorq.actors import ActorDied, State
from actorq.topology import Plan, Source, check
from actorq.topology.render.toml import to_toml
from actorq.topology.schema import Backend

from .preflight import check_machine, check_states
from .records import checkpoint
from .records.folder import RunFolder, RunFolderError, write_atomically
from .records.lock import FolderLock
from .records.summary import Summary
from .run import Run, RunFailed, RunOptions

__all__ = ["Run", "RunFailed", "RunOptions", "open_run", "prepare", "run", "running"]


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

    `source` is a topology file's path, a recipe's name, a dict or a Topology. `resume` names the folder of an
    earlier run, to continue from its last checkpoint: under its own topology, or under `source` if both are
    given. A new run's folder is `out`, which must be empty or absent, or else runs/<name>-<n>.
    `started` is the `time.monotonic()` from which `wall_seconds` is counted.

    Raises TopologyError, RunFolderError or CheckpointError before anything starts; RunFailed, with the
    actor's error as its cause, if an actor crashes past its limits. Leaving the block stops the run.
    Cancelled, the run is stopped in order: within two seconds, beyond writing what must be written.
    """
    options = RunOptions(
        source=source,
        overrides=overrides,
        transport=transport,
        backend=backend,
        out=out,
        resume=resume,
        started=started,
    )
    # In a thread: checking imports the topology's modules, and a checkpoint may be large.
    run = await anyio.to_thread.run_sync(prepare, options)
    async with running(run):
        yield run


@asynccontextmanager
async def running(run: Run) -> AsyncIterator[None]:
    """Start a prepared run; leaving the block stops it. Errors and cancellation as in `open_run`."""
    error: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            await run.start(tasks)
            yield
        except anyio.get_cancelled_exc_class():
            run.stop("interrupt")
            raise
        except BaseException as raised:  # kept out of the task group, which would wrap it
            error = raised
        finally:
            run.stop()
            with anyio.CancelScope(shield=True):
                await run.ended()
    if error is None or isinstance(error, ActorDied):  # a consequence of the failure, not its cause
        run.raise_unseen_failure()
    if error is not None:
        raise error


def prepare(options: RunOptions) -> Run:
    """Check the options and make the run's folder; starts nothing. Blocks.

    Raises ValueError, TopologyError, RunFolderError or CheckpointError for a mistake in the options.
    """
    source, out, resume = options.source, options.out, options.resume
    if source is None and resume is None:
        raise ValueError("open_run needs a topology, or a run to resume")
    if resume is not None and out is not None:
        raise ValueError("a resumed run has its folder already: leave `out` away")
    if "" in (out, resume):  # Path("") would be the current folder
        raise RunFolderError("a run's folder needs a name; this one is empty")
    resumed = RunFolder.open(Path(resume)) if resume is not None else None
    if source is None:
        assert resumed is not None
        source = resumed.topology
    plan = check(source, options.overrides, transport=options.transport)
    check_machine(plan)
    if resumed is not None:
        folder = resumed
    elif out is not None:
        folder = RunFolder.at(Path(out))
    else:
        folder = RunFolder.create(Path("runs"), plan.topology.name)
    lock = FolderLock(folder)
    try:
        states, recorded = _last_checkpoint(folder, plan) if resumed is not None else (None, None)
        if recorded is not None and options.source is not None:
            recorded["solved"] = False  # computed for the old topology
        if options.source is not None or options.overrides:
            write_atomically(folder.topology, to_toml(plan.topology).encode())
        return Run(plan, folder, lock, options, states, recorded)
    except BaseException as error:
        lock.release()
        if isinstance(error, OSError):
            raise RunFolderError(f"{folder.path}: can't be written: {error.strerror}") from error
        raise


def _last_checkpoint(folder: RunFolder, plan: Plan) -> tuple[dict[str, State], dict[str, Any]]:
    path = checkpoint.latest(folder.checkpoints)
    if path is None:
        raise checkpoint.CheckpointError(f"{folder.path}: there is no complete checkpoint to resume from")
    states, meta = checkpoint.load(path)
    check_states(plan, states, path)
    return states, meta["recorder"]


def run(source: Source | None = None, **options: Any) -> Summary:
    """Run a topology to its declared end, and block until then; takes and raises what `open_run` does.

    For scripts: it starts an event loop. An async application uses `open_run`.
    """

    async def whole_run() -> Summary:
        async with open_run(source, **options) as opened:
            return await opened.wait()

    return anyio.run(whole_run)
