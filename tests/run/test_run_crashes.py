"""A crash in each place, through a whole run: what the application sees, and what the folder says.

What happens among the actors is held to in tests/actors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import ActorDied
from actorq.run.open_run import Run, RunFailed, open_run
from actorq.run.records.summary import read_summary
from tests.actors.misbehaving import (
    GetPokes,
    Misbehaving,
    Misbehaviour,
    Poke,
    PokeBeside,
    PokeInThread,
    StartTask,
)

from .toy import Add, Counter, GetTotal, Total, topology

pytestmark = pytest.mark.anyio

POLICIES = ("always", "on-failure", "never")
STARTING = ("__init__", "on_start")
AT_A_MESSAGE = {
    "handler": Poke,
    "concurrent handler": PokeBeside,
    "thread handler": PokeInThread,
    "task": StartTask,
}
PLACES = (*STARTING, *AT_A_MESSAGE, "run", "on_stop")


class Steady(Misbehaving):
    """Its loop does not end by itself: "always" would begin it anew each time."""

    async def run(self) -> None:
        await super().run()
        await anyio.sleep_forever()


def cast(place: str, restart: str, times: int = 1, max_restarts: int = 3, **tables: Any) -> dict[str, Any]:
    """One that misbehaves, and one that counts and must not mind."""
    config = {"place": place, "times": times}
    misbehaving = {"role": Steady, "config": config, "restart": restart}
    plan = topology(actors={"bad": misbehaving, "counter": {"role": Counter}}, **tables)
    limits = {"actors": ["bad"], "max_restarts": max_restarts, "backoff_seconds": 0.0}
    return plan | {"groups": {"bad": limits}}


async def provoke(run: Run, place: str) -> None:
    if place in AT_A_MESSAGE:
        await run["bad"].tell(AT_A_MESSAGE[place]())


async def go_through(plan: dict[str, Any], place: str, backend: Any, out: Path) -> bool:
    """Provoke the crash and wait for what comes of it; whether the one that crashed is there again."""
    async with open_run(plan, backend=backend, out=out) as run:
        await provoke(run, place)
        try:
            if place == "on_stop":
                there = True
            else:
                there = await settled(run)
        finally:
            await run["counter"].tell(Add(1))
            assert await run["counter"].ask(GetTotal()) == Total(1), "it has not minded"
    return there


async def settled(run: Run) -> bool:
    """Ask until it is answered by another life, or never will be."""
    async for _ in run.progress(every_seconds=0.002):
        statistics = run.statistics()
        assert statistics is not None
        bad = next(actor for actor in statistics.actors if actor.name == "bad")
        if bad.crashes:
            break
    try:
        await run["bad"].ask(GetPokes())
    except ActorDied:
        return False
    return True


QUICK = {"metrics_every_seconds": 0.002}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("place", [place for place in PLACES if place != "on_stop"])
async def test_once(tmp_path: Path, inside: Any, place: str, policy: str) -> None:
    """The run continues: with a new incarnation, or without the actor where the policy is never."""
    plan = cast(place, policy, run=QUICK)
    if place == "run" and policy == "always":
        plan["groups"]["bad"]["max_restarts"] = (
            1_000_000  # its loop ends at once, and "always" begins it anew
        )
        plan["actors"]["bad"]["config"]["times"] = 1
    there = await go_through(plan, place, inside, tmp_path)
    assert there is (policy != "never")
    summary = read_summary(tmp_path / "summary.json")
    assert summary.stopped_by == "request"
    assert (summary.restarts > 0) is (policy != "never")


@pytest.mark.parametrize("policy", ["always", "on-failure"])
@pytest.mark.parametrize("place", PLACES)
async def test_past_the_limit(tmp_path: Path, inside: Any, place: str, policy: str) -> None:
    """The run fails, with the actor's own exception as the cause."""
    plan = cast(place, policy, times=100, max_restarts=0 if place == "on_stop" else 2)
    if place not in STARTING:
        plan["groups"]["bad"]["max_restarts"] = 0

    async def train() -> None:
        async with open_run(plan, backend=inside, out=tmp_path) as run:
            await provoke(run, place)
            if place == "on_stop":
                run.stop()
            await run.wait()

    with pytest.raises(
        RunFailed, match=f"^actor 'bad' crashed in {DOING[place]}.*Misbehaviour: {place}"
    ) as failed:
        await train()
    assert isinstance(failed.value.__cause__, Misbehaviour)
    assert failed.value.__cause__.__traceback__ is not None
    summary = read_summary(tmp_path / "summary.json")
    assert summary.stopped_by == "failure"
    assert summary.actors["bad"].restarts == (2 if place in STARTING else 0)


DOING = {
    "__init__": "__init__",
    "on_start": "on_start",
    "handler": "poke over Poke",
    "concurrent handler": "poke_beside over PokeBeside",
    "thread handler": "poke_in_thread over PokeInThread",
    "task": "_task",
    "run": "run",
    "on_stop": "on_stop",
}


async def test_a_crash_in_on_stop_costs_no_checkpoint(tmp_path: Path, inside: Any) -> None:
    """The states were taken before it."""

    async def train() -> None:
        async with open_run(cast("on_stop", "never"), backend=inside, out=tmp_path) as run:
            await run["bad"].tell(Poke())

    with pytest.raises(RunFailed, match="crashed in on_stop"):
        await train()
    async with open_run(resume=tmp_path, overrides=['actors.bad.config.place="nowhere"']) as run:
        assert (await run["bad"].ask(GetPokes())).count == 1
