"""The replay role: its waits, its refusals, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import numpy as np
import pytest

from actorq.actors import ActorSpec, Refused, System
from actorq.roles.replay.messages import DrawSample, Insert, SampleReply, UpdatePriorities, Version
from actorq.roles.replay.shard import ReplayShard
from tests.actors.world import all_blocked
from tests.replay.chunks import changed, make_chunk
from tests.roles.actors import Watch, spec

pytestmark = pytest.mark.anyio

AT_FIRST = Version(0, 0)


def replay(**config: Any) -> Sequence[ActorSpec]:
    return [
        spec("replay", ReplayShard, config=ReplayShard.Config(**{"capacity": 100, "min_size": 4, **config}))
    ]


class Asking:
    """One ask, running; `answer` and `refused` tell what came of it."""

    def __init__(self, system: System, request: Any) -> None:
        self.answer: Any = None
        self.refused = ""
        self._ask = system.ref("replay").ask
        self._request = request

    async def __call__(self) -> None:
        try:
            self.answer = await self._ask(self._request)
        except Refused as refusal:
            self.refused = str(refusal)


def insert(transitions: int, version: Version = AT_FIRST) -> Insert:
    return Insert(make_chunk(transitions), version)


async def test_a_sample_waits_for_the_least_size() -> None:
    async with System(replay()) as system, anyio.create_task_group() as tasks:
        sampling = Asking(system, DrawSample(3, AT_FIRST))
        tasks.start_soon(sampling)
        await system.ref("replay").ask(insert(3))
        await all_blocked()
        assert sampling.answer is None
        inserted = await system.ref("replay").ask(insert(1))
        assert (inserted.first_id, inserted.count) == (3, 1)
        await all_blocked()
        answer: Any = sampling.answer
        assert len(answer.sample.ids) == 3


async def test_inserts_wait_for_samples_and_go_in_one_after_the_other() -> None:
    """One sample for each insert, and at most 4 of them ahead: after 4 + 4 inserts the next wait."""
    watch = Watch()
    async with System(replay(samples_per_insert=1.0), reports=watch) as system:
        ask = system.ref("replay").ask
        await ask(insert(4))
        await ask(insert(4))
        async with anyio.create_task_group() as tasks:
            waiting = [Asking(system, insert(2)), Asking(system, insert(1))]
            for each in waiting:
                tasks.start_soon(each)
                await all_blocked()
            assert [each.answer for each in waiting] == [None, None]
            await ask(DrawSample(2, AT_FIRST))
            await all_blocked()
            assert waiting[0].answer is not None
            assert waiting[1].answer is None, "there is room for one of them"
            await ask(DrawSample(1, AT_FIRST))
        assert waiting[1].answer.first_id == 10
    assert max(watch.all_of("limiter_error")) == 4.0


async def test_samples_wait_for_inserts() -> None:
    async with System(replay(samples_per_insert=1.0)) as system:
        ask = system.ref("replay").ask
        await ask(insert(4))
        await ask(DrawSample(4, AT_FIRST))  # as far ahead as may be
        async with anyio.create_task_group() as tasks:
            sampling = Asking(system, DrawSample(2, AT_FIRST))
            tasks.start_soon(sampling)
            await ask(insert(1))
            await all_blocked()
            assert sampling.answer is None
            await ask(insert(1))
        assert sampling.answer is not None


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Insert(changed(make_chunk(5), discounts=np.full(5, 2, np.float32)), AT_FIRST), "discounts"),
        (Insert(changed(make_chunk(5), actions=np.zeros(5, np.int32)), AT_FIRST), "actions"),
        (Insert(make_chunk(101), AT_FIRST), "capacity"),
    ],
)
async def test_a_wrong_chunk_is_refused_and_changes_nothing(request_: Insert, words: str) -> None:
    async with System(replay()) as system:
        with pytest.raises(Refused, match=words):
            await system.ref("replay").ask(request_)
        assert (await system.ref("replay").ask(insert(5))).first_id == 0
        assert system.statistics().restarts == 0


async def test_a_refused_chunk_takes_no_room_of_the_limiter() -> None:
    wrong = Insert(changed(make_chunk(4), actions=np.zeros(4, np.int32)), AT_FIRST)
    async with System(replay(samples_per_insert=1.0)) as system:
        for _ in range(5):
            with pytest.raises(Refused):
                await system.ref("replay").ask(wrong)
        await system.ref("replay").ask(insert(4))
        await system.ref("replay").ask(insert(4))


async def test_what_declared_bounds_never_let_through_is_refused() -> None:
    async with System(replay(samples_per_insert=1.0, error_buffer_samples=6.0)) as system:
        with pytest.raises(Refused, match="at least 7"):
            await system.ref("replay").ask(insert(7))
        with pytest.raises(Refused, match="at least 9"):
            await system.ref("replay").ask(DrawSample(9, AT_FIRST))


async def test_undeclared_bounds_widen_to_the_largest_batch() -> None:
    async with System(replay(samples_per_insert=1.0)) as system:
        await system.ref("replay").ask(insert(8))
        sampled = await system.ref("replay").ask(DrawSample(64, AT_FIRST))
        assert len(sampled.sample.ids) == 64


async def test_new_priorities_decide_what_is_drawn() -> None:
    async with System(replay(alpha=1.0, epsilon=1e-30)) as system:
        ref = system.ref("replay")
        await ref.ask(insert(10))
        sharp = np.zeros(10, np.float32)
        sharp[7] = 1.0
        await ref.tell(UpdatePriorities(np.arange(10), sharp))
        await ref.tell(UpdatePriorities(np.arange(10), -sharp))  # refused: logged, and nobody crashes
        await all_blocked()
        sampled = await ref.ask(DrawSample(32, AT_FIRST))
        assert set(sampled.sample.ids.tolist()) == {7}
        (statistics,) = system.statistics().actors
        assert (statistics.mailbox.refused, statistics.restarts) == (1, 0)


async def test_priorities_that_come_too_late_are_counted() -> None:
    watch = Watch()
    async with System(replay(capacity=10), reports=watch) as system:
        ref = system.ref("replay")
        await ref.ask(insert(6))
        await ref.ask(insert(6))  # the first 6 are gone
        await ref.tell(UpdatePriorities(np.arange(4, 8), np.ones(4, np.float32)))
        await watch.progress.has(("late_priorities", 2))


async def test_the_first_batch_has_the_first_beta() -> None:
    async with System(replay(beta_start=0.0, beta_end=1.0, beta_batches=4)) as system:
        await system.ref("replay").ask(insert(10))
        samples = [DrawSample(32, AT_FIRST), DrawSample(8, AT_FIRST, batches=2), DrawSample(8, AT_FIRST)]
        betas = [(await system.ref("replay").ask(sample)).beta for sample in samples]
    assert betas == [0.0, 0.25, 0.75]


async def test_staleness_is_measured_within_one_incarnation() -> None:
    watch = Watch()
    async with System(replay(), reports=watch) as system:
        ask = system.ref("replay").ask
        await ask(insert(4))
        await ask(DrawSample(1, Version(1, 70)))
        await ask(insert(1, Version(1, 50)))
        await ask(insert(1, Version(0, 60)))  # of another life of the learner: not comparable
        await ask(insert(1, Version(1, 70)))
    told = watch.observed["weights_staleness"].distribution()
    assert (told.count, told.total, told.largest) == (3, 20.0, 20.0)


async def test_sampled_transitions_are_reported() -> None:
    """How old it is, how large its errors are now, and how often each insert has been sampled."""
    watch = Watch()
    async with System(replay(alpha=1.0, epsilon=1e-30), reports=watch) as system:
        ref = system.ref("replay")
        await ref.ask(insert(10))
        await ref.tell(UpdatePriorities(np.arange(10), np.eye(10, dtype=np.float32)[7] * 3))
        await ref.tell(UpdatePriorities(np.arange(2), np.array([-1, 1], np.float32)))  # refused: not observed
        await all_blocked()
        await ref.ask(DrawSample(35, AT_FIRST))
        await ref.ask(Insert(changed(make_chunk(4), priorities=np.zeros(4, np.float32)), AT_FIRST))
        await ref.ask(DrawSample(7, AT_FIRST))
    priority, age = (watch.observed[name].distribution() for name in ("priority", "age"))
    assert (priority.count, priority.total, priority.largest) == (10, 3.0, 3.0)
    assert (age.count, age.smallest, age.largest) == (42, 2.0, 6.0), "only the transition 7 is ever drawn"
    assert age.total == 35 * 2 + 7 * 6
    assert watch.all_of("replay_ratio") == [0.0, 2.5]


async def test_at_the_end_waiting_inserts_go_in_and_waiting_samples_go_back() -> None:
    async with anyio.create_task_group() as tasks:
        async with System(replay(samples_per_insert=1.0)) as system:
            await system.ref("replay").ask(insert(4))
            await system.ref("replay").ask(insert(4))
            inserting = Asking(system, insert(3))
            tasks.start_soon(inserting)
            await all_blocked()
            assert inserting.answer is None
        async with System(replay()) as other:
            sampling = Asking(other, DrawSample(1, AT_FIRST))
            tasks.start_soon(sampling)
            await all_blocked()
    assert inserting.answer.count == 3
    assert system.final_states["replay"]["gate"]["inserted"] == 11
    assert "stopping" in sampling.refused
    assert system.statistics().dead_letters == other.statistics().dead_letters == 0


@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
async def test_continues_from_its_state_as_if_never_stopped(sampling: str) -> None:
    actors = replay(samples_per_insert=2.0, sampling=sampling)

    async def draw(system: System, times: int) -> list[SampleReply]:
        return [await system.ref("replay").ask(DrawSample(4, AT_FIRST)) for _ in range(times)]

    async with System(actors) as system:
        await system.ref("replay").ask(insert(6))
        await draw(system, 1)
        states = await system.states()
        expected = await draw(system, 2)
    async with System(actors, states=states) as system:
        found = await draw(system, 2)
    for one, other in zip(found, expected, strict=True):
        assert one.sample.ids.tolist() == other.sample.ids.tolist()
        assert one.sample.probabilities.tolist() == other.sample.probabilities.tolist()
    assert system.final_states["replay"]["batches"] == 3
