"""Explorers that ask an inference actor take the same steps as with weights of their own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, ClassVar

import anyio
import anyio.to_thread
import numpy as np
import pytest

from actorq.actors import Actor, ActorSpec, Message, Refused, System, handles
from actorq.actors.runtime.reports import ReportTotals
from actorq.learning.agent import Agent
from actorq.replay.chunk import Chunk
from actorq.roles.explorer.explorer import Explorer
from actorq.roles.inference.messages import Act, Acted
from actorq.roles.inference.server import Inference
from actorq.roles.replay.messages import Insert, Version
from actorq.testing import Record
from actorq.topology import TopologyError, check
from tests.actors.world import AT_ONCE, all_blocked, fresh
from tests.roles.actors import Publish, spec

from .asked import (
    BOTH,
    CARTPOLE,
    CNN,
    MLP,
    NOISE,
    Learned,
    Unreliable,
    assert_alike,
    initial,
    topology,
)

pytestmark = pytest.mark.anyio


async def explored(
    specs: list[ActorSpec],
    record: Record[Insert],
    task: Learned,
    agent: Agent,
    each: int,
    deterministic: bool = False,
) -> dict[float, list[Chunk]]:
    """The first chunks of every explorer, by the first number that it saw."""
    chunks: dict[float, list[Chunk]] = {}

    def enough() -> bool:
        return len(chunks) == explorers and all(len(list_) >= each for list_ in chunks.values())

    explorers = sum(each.name.startswith("explorer") for each in specs)
    async with System(specs, AT_ONCE, deterministic=deterministic) as system:
        await system.ref("learner").tell(Publish([initial(task, agent)]))
        seen = 0
        while not enough():
            for insert in (await record.reaches(seen + 1))[seen:]:
                seen += 1
                chunks.setdefault(_explorer(insert.chunk, chunks), []).append(insert.chunk)
    return {first: list_[:each] for first, list_ in chunks.items()}


def _explorer(chunk: Chunk, known: dict[float, list[Chunk]]) -> float:
    """Whose chunk it is: frames are carried over from one to the next of the same explorer."""
    for first, chunks in known.items():
        if any(np.array_equal(chunk.frames[0], frame) for frame in chunks[-1].frames[1:]):
            return first
    return float(chunk.frames[0].ravel()[1:].astype(float) @ np.arange(1, chunk.frames[0].size))


@pytest.mark.parametrize("deterministic", [False, True], ids=["freely", "in turns"])
@pytest.mark.parametrize(
    ("task", "agent", "explorers"),
    [(CARTPOLE, MLP, 1), (CARTPOLE, MLP, 4), (NOISE, CNN, 1), (NOISE, CNN, 2), (BOTH, MLP, 4)],
    ids=["numpy", "numpy, together", "torch", "torch, together", "two tasks"],
)
async def test_the_same_is_lived_through_as_with_weights_of_ones_own(
    task: Learned, agent: Agent, explorers: int, deterministic: bool
) -> None:
    ways: list[dict[float, list[Chunk]]] = []
    for asking in (True, False):
        record: Record[Insert] = Record()
        given: dict[str, Any] = {"batch_size": 6} if explorers > 1 else {"deadline_seconds": 0.0}
        specs = topology(record, task, agent, explorers=explorers, asking=asking, **given)
        ways.append(await explored(specs, record, task, agent, 4, deterministic and asking))
    asked, local = ways
    assert asked.keys() == local.keys()
    for first, chunks in asked.items():
        for mine, other in zip(chunks, local[first], strict=True):
            assert_alike(mine, other)


async def test_waits_for_weights_and_tells_their_version() -> None:
    record: Record[Insert] = Record()
    watch = ReportTotals()
    async with System(topology(record, CARTPOLE, MLP), AT_ONCE, reports=watch) as system:
        await all_blocked()
        assert record.entries == [], "nothing to act with yet"
        await system.ref("learner").tell(Publish([initial(CARTPOLE, MLP, 3)]))
        assert (await record.reaches(1))[0].version == Version(0, 3)
        await system.ref("learner").tell(Publish([initial(CARTPOLE, MLP, updates) for updates in (4, 5)]))
        await _until(record, Version(0, 5))
    versions = [insert.version.updates for insert in record.entries]
    assert versions == sorted(versions), "a chunk's version is the oldest that had a say in it"
    assert watch.counts["inferences"] >= watch.counts["env_steps"]
    assert watch.gauges["inference_held_share"] >= 0


async def _until(record: Record[Insert], version: Version) -> None:
    seen = 0
    while record.entries[seen - 1].version != version:
        seen = len(await record.reaches(seen + 1))


class Forgetful(Actor):
    """Answers with whatever versions it is given."""

    versions: ClassVar[Iterator[Version]]

    @handles
    async def act(self, request: Act) -> Acted:
        return Acted(np.zeros((len(request.observations), 2), np.float32), next(self.versions))


async def test_a_chunk_is_of_the_oldest_version_that_had_a_say() -> None:
    told = [Version(1, 7), Version(1, 4), Version(0, 9), Version(1, 2)]
    record: Record[Insert] = Record()
    specs = topology(record, CARTPOLE, MLP)
    place = next(index for index, each in enumerate(specs) if each.name == "inference")
    specs[place] = spec("inference", fresh(Forgetful, versions=chain(told, repeat(Version(1, 8)))))
    async with System(specs, AT_ONCE):
        await record.reaches(2)
    assert [insert.version for insert in record.entries[:2]] == [Version(0, 9), Version(1, 8)]


async def test_a_request_that_does_not_fit_is_refused_and_no_other() -> None:
    record: Record[Insert] = Record()
    async with System(topology(record, CARTPOLE, MLP, deadline_seconds=0.0), AT_ONCE) as system:
        await system.ref("learner").tell(Publish([initial(CARTPOLE, MLP)]))
        inference = system.ref("inference")
        for wrong in (np.zeros((2, 5), np.float32), np.zeros((2, 4)), np.zeros(4, np.float32)):
            with pytest.raises(Refused, match=r"observations are \[B, \*\(4,\)\] of float32, not"):
                await inference.ask(Act(wrong))
        with pytest.raises(Refused, match="there is no task 1; there are 1"):
            await inference.ask(Act(np.zeros((2, 4), np.float32), task=1))
        assert (await inference.ask(Act(np.zeros((70, 4), np.float32)))).q_values.shape == (70, 2)
        await record.reaches(1)
        assert all(actor.restarts == 0 for actor in system.statistics().actors)


async def test_the_death_of_the_asked_actor_loses_nothing() -> None:
    """Not an episode and not a step: the experience is that of an undisturbed run."""
    ways = []
    for numbers in ((), (1, 5, 6)):
        record: Record[Insert] = Record()
        unreliable = fresh(Unreliable, numbers=numbers, asked=[])
        specs = topology(record, CARTPOLE, MLP, inference=unreliable, deadline_seconds=0.0)
        (chunks,) = (await explored(specs, record, CARTPOLE, MLP, each=5)).values()
        assert len(unreliable.asked) > 20
        ways.append(chunks)
    for mine, other in zip(*ways, strict=True):
        assert_alike(mine, other)


class Stumble(Message):
    pass


class Stumbling(Explorer):
    @handles
    async def stumble(self, _: Stumble) -> None:
        raise RuntimeError("fell over")


async def test_a_dead_explorers_request_has_no_reply() -> None:
    record: Record[Insert] = Record()
    specs = topology(record, CARTPOLE, MLP, explorers=2, explorer=Stumbling, batch_size=6)
    async with System(specs, AT_ONCE) as system:
        await all_blocked()  # both have asked
        await system.ref("explorer.0").tell(Stumble())
        await all_blocked()  # its next life has asked, too
        await system.ref("learner").tell(Publish([initial(CARTPOLE, MLP)]))
        await record.reaches(6)
        restarts = {actor.name: actor.restarts for actor in system.statistics().actors}
    assert restarts == {"replay": 0, "learner": 0, "inference": 0, "explorer.0": 1, "explorer.1": 0}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """All warnings but that of a busy machine."""
    return [message for message in caplog.messages if "has held the event loop" not in message]


@pytest.mark.parametrize("published", [True, False])
async def test_stops_at_once_while_tasks_wait(published: bool, caplog: pytest.LogCaptureFixture) -> None:
    record: Record[Insert] = Record()
    specs = topology(record, CARTPOLE, MLP, explorers=2, batch_size=1000, deadline_seconds=1000.0)
    with caplog.at_level(logging.WARNING):
        async with System(specs, AT_ONCE) as system:
            if published:
                await system.ref("learner").tell(Publish([initial(CARTPOLE, MLP)]))
            await all_blocked()
    assert said(caplog) == []


class Busy(Inference):
    """Computes until the run stops."""

    computing: ClassVar[threading.Event]
    release: ClassVar[threading.Event]

    def _answer(self, *given: Any) -> Any:
        self.computing.set()
        assert self.release.wait(50)
        return super()._answer(*given)

    def on_drain(self) -> None:
        super().on_drain()
        self.release.set()


async def test_what_is_being_computed_is_answered_when_the_run_stops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    busy = fresh(Busy, computing=threading.Event(), release=threading.Event())
    specs = topology(Record(), CARTPOLE, MLP, inference=busy)
    with caplog.at_level(logging.WARNING):
        async with System(specs, AT_ONCE) as system:
            await system.ref("learner").tell(Publish([initial(CARTPOLE, MLP)]))
            await anyio.to_thread.run_sync(busy.computing.wait)
    assert said(caplog) == [], "no thread is left behind"


async def test_deterministic_runs_are_the_same() -> None:
    found = []
    for _ in range(2):
        record: Record[Insert] = Record()
        specs = topology(record, CARTPOLE, MLP, explorers=3, batch_size=7)
        async with System(specs, AT_ONCE, deterministic=True) as system:
            await system.ref("learner").tell(Publish([initial(CARTPOLE, MLP)]))
            await record.reaches(12)
        found.append([insert.chunk.frames.tobytes() for insert in record.entries[:12]])
    assert found[0] == found[1]


def crew(**explorer: Any) -> dict[str, Any]:
    """A topology of one explorer, wired as given."""
    learner = {"role": "learner", "ports": {"replay": "replay"}}
    return {
        "task": {"env": "CartPole-v1"},
        "agent": {"hidden": [8]},
        "stop": {"updates": 1},
        "actors": {
            "replay": {"role": "replay"},
            "learner": learner,
            "inference": {"role": "inference", "ports": {"weights": "learner"}},
            "explorer": {"role": "environment", **explorer},
        },
    }


@pytest.mark.parametrize(
    ("ports", "config", "problem"),
    [
        ({}, {}, r"explorer\.ports: wire either weights, to act with a copy of them, or inference"),
        ({"weights": "learner", "inference": "inference"}, {}, r"explorer\.ports\.inference: wire either"),
        (
            {"inference": "inference"},
            {"device": "cpu"},
            r"explorer\.config\.device: is for weights of its own",
        ),
    ],
)
def test_explorers_either_have_weights_or_ask(
    ports: dict[str, str], config: dict[str, Any], problem: str
) -> None:
    check(crew(ports={"replay": "replay", "inference": "inference"}))
    with pytest.raises(TopologyError, match=problem):
        check(crew(ports={"replay": "replay", **ports}, config=config))
