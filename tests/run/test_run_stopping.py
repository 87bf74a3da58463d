"""The ends of a run, and their summaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actorq.run.open_run import open_run
from actorq.run.records.metrics import read_rows
from actorq.run.records.summary import Summary, read_summary

from .toy import Add, Counter, GetTotal, Worker, role, topology

pytestmark = pytest.mark.anyio

KEYS = (
    "name, seed, stopped_by, solved, env_steps, updates, episodes, wall_seconds, env_steps_per_second, "
    "updates_per_second, evaluation_return_mean, evaluation_return_std, evaluation_episodes, tasks, "
    "restarts, dead_letters, staleness, actors"
)
"""Of summary.json, as the design has them."""


async def run_to_end(plan: dict[str, Any], backend: Any, out: Path) -> Summary:
    async with open_run(plan, backend=backend, out=out) as run:
        return await run.wait()


@pytest.mark.parametrize(
    ("limit", "reached"),
    [
        ({"env_steps": 30}, {"env_steps": 30, "updates": 10, "episodes": 1}),
        ({"updates": 12}, {"env_steps": 33, "updates": 12, "episodes": 2}),
        ({"episodes": 3}, {"env_steps": 45, "updates": 15, "episodes": 3}),
        ({"solved": {"return": 475.0, "episodes": 20}}, {"env_steps": 21, "updates": 7, "episodes": 1}),
        ({"updates": 4, "episodes": 1}, {"env_steps": 9, "updates": 4, "episodes": 0}),
    ],
)
async def test_a_count_ends_it(
    tmp_path: Path, inside: Any, limit: dict[str, Any], reached: dict[str, int]
) -> None:
    """At least what was to be reached is: the rest of a round may be reported before the actor is stopped."""
    plan = topology(actors={"worker": role(Worker, solved_at=7, rounds=reached["updates"])}, stop=limit)
    summary = await run_to_end(plan, inside, tmp_path)
    assert summary.stopped_by == next(iter(limit))
    for name, count in reached.items():
        assert count <= getattr(summary, name) <= count + 3
    assert summary.solved is ("solved" in limit or summary.updates >= 7)


async def test_time_ends_it(tmp_path: Path, inside: Any) -> None:
    summary = await run_to_end(topology(stop={"wall_seconds": 0.05}), inside, tmp_path)
    assert summary.stopped_by == "wall_seconds"
    assert summary.wall_seconds >= 0.05


async def test_the_summary_has_the_results(tmp_path: Path, inside: Any) -> None:
    plan = topology(
        "told",
        seed=5,
        actors={"worker": role(Worker, solved_at=8, rounds=10), "counters": {"role": Counter, "count": 2}},
    )
    async with open_run(plan, backend=inside, out=tmp_path) as run:
        for _ in range(3):
            await run["counters.1"].tell(Add(4))
        await run["counters.1"].ask(GetTotal())
        async for progress in run.progress(every_seconds=0.005):
            if progress.counts.get("updates") == 10:
                break
        run.stop("enough seen")
    summary = run.summary
    assert summary is not None
    assert summary == read_summary(tmp_path / "summary.json")
    written = json.loads((tmp_path / "summary.json").read_text())
    assert ", ".join(written) == KEYS
    assert written | {"wall_seconds": 1, "env_steps_per_second": 1, "updates_per_second": 1} == {
        "name": "told",
        "seed": 5,
        "stopped_by": "enough seen",
        "solved": True,
        "env_steps": 42,
        "updates": 10,
        "episodes": 2,
        "wall_seconds": 1,
        "env_steps_per_second": 1,
        "updates_per_second": 1,
        "evaluation_return_mean": 480.0,
        "evaluation_return_std": 2.0,
        "evaluation_episodes": 20,
        "tasks": {},
        "restarts": 0,
        "dead_letters": 0,
        "staleness": {"p50": 1, "p90": 2, "p99": 2, "max": 2},
        "actors": {
            "counter": {"messages_in": 0, "messages_out": 0, "restarts": 0},
            "worker": {"messages_in": 0, "messages_out": 0, "restarts": 0},
            "counters.0": {"messages_in": 0, "messages_out": 0, "restarts": 0},
            "counters.1": {"messages_in": 4, "messages_out": 0, "restarts": 0},
        },
    }
    assert summary.env_steps_per_second == pytest.approx(42 / summary.wall_seconds)
    assert summary.updates_per_second == pytest.approx(10 / summary.wall_seconds)
    last = read_rows(tmp_path / "metrics.jsonl")[-1]
    assert (last["env_steps"], last["updates"], last["episodes"]) == (42, 10, 2)


async def test_the_folder_holds_what_the_design_names(tmp_path: Path, inside: Any) -> None:
    async with open_run(topology(), backend=inside, out=tmp_path / "deep" / "run") as run:
        pass
    names = {path.name for path in run.folder.path.iterdir() if not path.name.startswith(".")}
    assert names == {
        "topology.toml",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "report.html",
        "summary.json",
    }


async def test_the_first_reason_counts(tmp_path: Path, inside: Any) -> None:
    async with open_run(topology(stop={"env_steps": 5}), backend=inside, out=tmp_path) as run:
        await run["counter"].tell(Add(5))
        await run.ended()
        run.stop("too late")
    assert run.summary is not None
    assert run.summary.stopped_by == "env_steps"


@pytest.mark.parametrize("keep", [True, False])
async def test_a_stop_leaves_a_checkpoint_unless_it_is_told_not_to(
    tmp_path: Path, inside: Any, keep: bool
) -> None:
    async with open_run(topology(), backend=inside, out=tmp_path) as run:
        await run["counter"].tell(Add(5))
        run.stop("interrupt")
        run.stop("again", checkpoint=keep)
        assert (await run.wait()).stopped_by == "interrupt"
    assert (tmp_path / "checkpoints").exists() is keep


async def test_wall_seconds_count_from_the_commands_start(tmp_path: Path, inside: Any) -> None:
    import time

    began = time.monotonic() - 1000
    async with open_run(topology(), backend=inside, out=tmp_path, started=began) as run:
        assert run.progress_now().wall_seconds >= 1000
    assert run.summary is not None
    assert run.summary.wall_seconds >= 1000
    assert (
        msgspec.json.decode((tmp_path / "metrics.jsonl").read_bytes().splitlines()[-1])["wall_seconds"]
        >= 1000
    )
