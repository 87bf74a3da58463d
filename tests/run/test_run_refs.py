"""References to a run's actors from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import ActorDied, Message, NotCarried, Refused
from actorq.actors.runtime import system
from actorq.run.open_run import RunFailed, open_run

from .toy import (
    Add,
    Counter,
    Crash,
    CrashOver,
    Forever,
    GetTotal,
    Refuse,
    Total,
    WaitAt,
    gates,
    opened,
    topology,
)

pytestmark = pytest.mark.anyio

COUNTERS = topology(actors={"many": {"role": Counter, "count": 3}})


class Elsewhere(Message):
    """A counter does not handle it."""


async def test_an_actor_is_told_and_asked(tmp_path: Path, inside: Any) -> None:
    async with open_run(COUNTERS, backend=inside, out=tmp_path) as run:
        await run["counter"].tell(Add(2))
        await run["many.1"].tell(Add(3))
        assert await run["counter"].ask(GetTotal()) == Total(2)
        assert await run["many.1"].ask(GetTotal(), timeout=20) == Total(3)
        assert repr(run["many.1"]) == "<OutsideRef to many.1>"


async def test_a_group_chooses_members(tmp_path: Path, inside: Any) -> None:
    async with open_run(COUNTERS, backend=inside, out=tmp_path) as run:
        group = run.group("many")
        for amount in (1, 2, 3, 4):
            await group.any().tell(Add(amount))
        assert await group.all().ask(GetTotal()) == [Total(5), Total(2), Total(3)]
        await group.all().tell(Add(10))
        assert await group.all().ask(GetTotal(), timeout=20) == [Total(15), Total(12), Total(13)]
        assert group.by("a key") is group.by("a key")
        assert [member.name for member in group] == ["many.0", "many.1", "many.2"]
        assert (len(group), group[2]) == (3, run["many.2"])
        assert [member.name for member in run.group("counter")] == ["counter"]


async def test_unknown_names(tmp_path: Path, inside: Any) -> None:
    async with open_run(COUNTERS, backend=inside, out=tmp_path) as run:
        with pytest.raises(KeyError, match="no actor 'man'; there are counter, many"):
            run["man"]
        with pytest.raises(KeyError, match=r"'many' has 3 members, many.0 and so on; or use group\('many'\)"):
            run["many"]
        with pytest.raises(KeyError, match="no actor 'man'; there are counter, many"):
            run.group("man")


PAIRS = topology(
    actors={"first": {"role": Counter}, "many": {"role": Counter, "count": 2}},
    groups={
        "pair": {"actors": ["first", "many"], "count": 2, "strategy": "one-for-all", "backoff_seconds": 0.0}
    },
)


async def test_an_instance_of_a_group(tmp_path: Path, inside: Any) -> None:
    async with open_run(PAIRS, backend=inside, out=tmp_path) as run:
        everyone = [member.name for member in run.group("many")]
        assert everyone == ["pair.0.many.0", "pair.0.many.1", "pair.1.many.0", "pair.1.many.1"]
        await run.group("pair.1.many").all().tell(Add(4))
        assert await run.group("many").all().ask(GetTotal()) == [Total(0), Total(0), Total(4), Total(4)]
        assert [member.name for member in run.group("pair.0.first")] == ["pair.0.first"]
        with pytest.raises(KeyError, match=r"'first' has 2 members, pair.0.first and so on"):
            run["first"]
        with pytest.raises(KeyError, match=r"'pair.1.many' has 2 members, pair.1.many.0 and so on"):
            run["pair.1.many"]
        with pytest.raises(KeyError, match=r"no actor 'pair\.2\.many'"):
            run.group("pair.2.many")


async def test_a_crash_begins_one_instance_of_a_group_anew(tmp_path: Path, inside: Any) -> None:
    async with open_run(PAIRS, backend=inside, out=tmp_path) as run:
        for name in ("first", "many"):
            await run.group(name).all().tell(Add(3))
        with pytest.raises(ActorDied):
            await run["pair.0.many.1"].ask(CrashOver())
        assert await run.group("many").all().ask(GetTotal()) == [Total(0), Total(0), Total(3), Total(3)]
        assert await run.group("first").all().ask(GetTotal()) == [Total(0), Total(3)]


async def test_what_goes_wrong_comes_back(
    tmp_path: Path, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "DRAIN_SECONDS", 0.05)  # the asks without an answer never end
    plan = COUNTERS | {"groups": {"counters": {"actors": ["counter"], "backoff_seconds": 0.0}}}
    async with open_run(plan, backend=inside, out=tmp_path) as run:
        counter = run["counter"]
        with pytest.raises(Refused, match="not today"):
            await counter.ask(Refuse())
        with pytest.raises(TimeoutError, match="outside asked counter Forever: no reply within its timeout"):
            await counter.ask(Forever(), timeout=0.01)
        with pytest.raises(TimeoutError):
            await run.group("many").all().ask(Forever(), timeout=0.01)
        with pytest.raises(NotCarried, match="Elsewhere"):
            await counter.tell(Elsewhere())
        with pytest.raises(ActorDied, match="crashed in crash_over over CrashOver: ValueError"):
            await counter.ask(CrashOver())
        assert await counter.ask(GetTotal()) == Total(0), "good across a restart"
        with anyio.move_on_after(0):
            await counter.ask(Forever())


async def test_asks_end_with_the_run(tmp_path: Path, inside: Any) -> None:
    async def train() -> None:
        async with (
            open_run(topology(), backend=inside, out=tmp_path) as run,
            anyio.create_task_group() as asks,
        ):

            async def ask() -> None:
                with pytest.raises(ActorDied):
                    await run["counter"].ask(Forever())

            asks.start_soon(ask)
            await run["counter"].tell(Crash())
            await run.ended()
            for late in (run["counter"].ask(GetTotal()), run["counter"].tell(Add(1)), run.checkpoint()):
                with pytest.raises(ActorDied, match="the run has ended"):
                    await late

    with pytest.raises(RunFailed):
        await train()


async def test_an_asker_gets_the_reason_of_the_runs_failure(tmp_path: Path, inside: Any) -> None:
    """And stopping a run that is failing makes no whole one of it: there is no checkpoint."""

    async def train() -> None:
        async with open_run(topology(), backend=inside, out=tmp_path) as run:
            await run["counter"].ask(CrashOver())

    with pytest.raises(RunFailed, match="crashed in crash_over") as failed:
        await train()
    assert str(failed.value.__cause__) == "asked to crash"
    assert not (tmp_path / "checkpoints").exists()


async def test_a_full_mailbox_slows_the_application_down(tmp_path: Path, inside: Any) -> None:
    key, told, second = f"{tmp_path} gate", list[int](), anyio.Event()
    plan = topology(
        actors={"counter": {"role": Counter, "mailbox": {"messages": 3}}, "other": {"role": Counter}}
    )
    async with open_run(plan, backend=inside, out=tmp_path) as run, anyio.create_task_group() as tasks:

        async def flood() -> None:
            for number in range(1, 4):
                await run["counter"].tell(Add(1))
                told.append(number)
                if number == 2:
                    second.set()

        tasks.start_soon(run["counter"].ask, WaitAt(key))  # in progress, it takes one place of three
        await opened(f"{key} waited at")
        tasks.start_soon(flood)
        await second.wait()
        await run["other"].ask(GetTotal())  # what was told before it has come through
        assert told == [1, 2]
        gates[key].set()
    assert told == [1, 2, 3]
