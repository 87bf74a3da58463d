"""`actorq.run(path)` for scripts, the import cost of the package's names, and reproducible runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import actorq
from actorq.run.open_run import RunFailed, open_run
from actorq.run.records.metrics import read_rows
from actorq.topology.schema import Backend

from .toy import Worker, role, topology

run: Any = actorq.run
"""A package that can be called, which type checkers don't see."""

WORKER_TOML = """
[stop]
updates = 5

[actors.worker]
role = "tests.run.toy:Worker"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "walk.toml"
    path.write_text(WORKER_TOML)
    return path


@pytest.mark.parametrize("inside", ["asyncio", "trio"])
def test_a_script_runs_a_topology_to_its_end(
    path: Path, inside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    summary = run(path, backend=inside, overrides=["seed=3"])
    assert (summary.name, summary.seed, summary.stopped_by) == ("walk", 3, "updates")
    assert summary.updates >= 5
    assert (tmp_path / "runs" / "walk-1" / "summary.json").exists()
    assert run(path, out=tmp_path / "own").updates >= 5
    assert run(resume=tmp_path / "own", overrides=["stop.updates=50"]).updates >= 50


def test_a_script_gets_what_goes_wrong_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(actorq.TopologyError, match=r"actors\.worker\.role"):
        run({"actors": {"worker": {"role": "tests.run.toy:Wroker"}}}, out=tmp_path)
    assert not list(tmp_path.iterdir()), "nothing was begun"
    plan = topology(
        actors={"bad": {"role": "tests.actors.misbehaving:Misbehaving", "config": {"place": "run"}}}
    )
    with pytest.raises(RunFailed, match="crashed in run"):
        run(plan, out=tmp_path)


def test_a_topology_is_loaded_and_run(path: Path, tmp_path: Path) -> None:
    loaded = actorq.load(path)
    assert isinstance(loaded, actorq.Topology)
    assert (loaded.name, loaded.stop.updates) == ("walk", 5)
    assert run(loaded, out=tmp_path / "out").updates >= 5


def test_names_are_loaded_when_they_are_used() -> None:
    script = (
        "import sys, actorq\n"
        "heavy = {'torch', 'numpy', 'numba', 'gymnasium', 'anyio', 'msgspec', 'tensorboard'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert set(actorq.__all__) <= set(dir(actorq))\n"
        "for name in actorq.__all__: getattr(actorq, name)\n"
        "assert not {'torch', 'numba', 'gymnasium', 'tensorboard'} & set(sys.modules)\n"
        "assert callable(actorq.run) and actorq.run.__name__ == 'actorq.run'\n"
        "from actorq import open_run, RunFailed\n"
        "assert actorq.open_run is open_run\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def talk(**tables: Any) -> dict[str, Any]:
    workers = role(Worker, rest_seconds=0.25) | {"count": 3}
    return topology(actors={"worker": workers}, deterministic=True, stop={"updates": 2000}, **tables)


def comparable(out: Path) -> list[dict[str, float]]:
    """The rows without their wall-clock fields."""
    rows = read_rows(out / "metrics.jsonl")
    assert rows
    return [
        {
            name: value
            for name, value in row.items()
            if name != "wall_seconds" and not name.endswith("_per_second")
        }
        for row in rows
    ]


@pytest.mark.anyio
async def test_a_deterministic_run_comes_out_the_same_twice(tmp_path: Path) -> None:
    """On either back end, inside either."""
    backends: tuple[Backend, ...] = ("asyncio", "trio", "asyncio")
    seen = []
    for number, backend in enumerate(backends):
        out = tmp_path / str(number)
        async with open_run(talk(), backend=backend, out=out) as opened:
            summary = await opened.wait()
        seen.append((comparable(out), summary.updates, summary.env_steps, summary.episodes))
    first, *others = seen
    assert len(first[0]) > 5
    assert all(other == first for other in others)
    async with open_run(talk(seed=1), out=tmp_path / "other seed") as opened:
        await opened.wait()
    assert comparable(tmp_path / "other seed") != first[0]
