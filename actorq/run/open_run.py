"""Opening a run: from a script, or inside any async application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from actorq.actors import ActorDied, State
from actorq.launchers.thread_engine import Backend
from actorq.topology import Plan, Source, check
from actorq.topology.render.toml import to_toml

from .preflight import check_machine, check_states
from .records import checkpoint
from .records.folder import RunFolder, RunFolderError, write_whole
from .records.lock import FolderLock
from .records.summary import Summary
from .run import Run, RunFailed

__all__ = ["Run", "RunFailed", "going", "open_run", "prepare", "run"]


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
    folder of an earlier run to `resume` from its last checkpoint; with both, that run goes on as `source`
    says from now on. Its folder is `out`, which must be empty or absent, or else runs/<name>-<n>.
    `started` is the `time.monotonic()` from which `wall_seconds` is counted.

    Raises TopologyError, RunFolderError or CheckpointError before anything starts; RunFailed, with the
    actor's error as its cause, if an actor crashes past its limits. Leaving the block stops the run.
    Cancelled, the run is stopped in order: within two seconds, beyond writing what must be written.
    """
    prepared = partial(
        prepare,
        source,
        overrides=overrides,
        transport=transport,
        backend=backend,
        out=out,
        resume=resume,
        started=started,
    )
    # In a thread: checking imports what the topology names, and a checkpoint may be large.
    run = await anyio.to_thread.run_sync(prepared)
    async with going(run):
        yield run


@asynccontextmanager
async def going(run: Run) -> AsyncIterator[None]:
    """Start what `prepare` made; leaving the block stops it. Raises, and is cancelled, as `open_run`."""
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
    if error is None or isinstance(error, ActorDied):  # which comes of a failure, and doesn't tell why
        run.raise_unseen_failure()
    if error is not None:
        raise error


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
    """Check all that `open_run` takes and make the run's folder, but start nothing. Blocks.

    What is wrong with the arguments is raised here (TopologyError, RunFolderError, CheckpointError), and what
    goes wrong in the run only later.
    """
    if source is None and resume is None:
        raise ValueError("open_run needs a topology, or a run to resume")
    if resume is not None and out is not None:
        raise ValueError("a resumed run has its folder already: leave `out` away")
    if "" in (out, resume):  # Path("") would be the current folder
        raise RunFolderError("a run's folder needs a name; this one is empty")
    if resume is not None:
        folder = RunFolder.open(Path(resume))
        plan = check(source if source is not None else folder.topology, overrides, transport=transport)
        check_machine(plan)
    else:
        assert source is not None
        plan = check(source, overrides, transport=transport)
        check_machine(plan)
        name = plan.topology.name
        folder = RunFolder.at(Path(out)) if out is not None else RunFolder.create(Path("runs"), name)
    lock = FolderLock(folder)
    try:
        states, recorded = _last_checkpoint(folder, plan) if resume is not None else (None, None)
        if recorded is not None and source is not None:
            recorded["solved"] = False  # it was by the old topology
        if source is not None or overrides:
            write_whole(folder.topology, to_toml(plan.topology).encode())
        return Run(plan, folder, lock, backend=backend, states=states, recorded=recorded, started=started)
    except BaseException as error:
        lock.release()
        if isinstance(error, OSError):
            raise RunFolderError(f"{folder.path}: can't be written: {error.strerror}") from error
        raise


def _last_checkpoint(folder: RunFolder, plan: Plan) -> tuple[dict[str, State], dict[str, Any]]:
    path = checkpoint.latest(folder.checkpoints)
    if path is None:
        raise checkpoint.CheckpointError(f"{folder.path}: there is no whole checkpoint to go on from")
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
