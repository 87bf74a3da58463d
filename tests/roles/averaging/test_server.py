"""The averaging server: which learners wait for each other, the result of a synchronization, and deaths."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
import pytest

from actorq.actors import Message, Refused, System, handles
from actorq.roles.averaging.messages import Synchronized
from actorq.roles.replay.messages import Version, Weights
from actorq.testing import Record
from tests.actors.world import AT_ONCE, all_blocked, fresh
from tests.roles.actors import Watch
from tests.roles.parameter_server.server import Bystander

from .tree import SIZE, Counting, Voice, Zero, bystanders, tree

pytestmark = pytest.mark.anyio


class Die(Message):
    pass


class Mortal(Bystander):
    @handles
    async def die(self, _: Die) -> None:
        raise RuntimeError("as it was told")


class MortalRoot(Zero):
    @handles
    async def die(self, _: Die) -> None:
        raise RuntimeError("as it was told")


async def all_of(*asks: Any) -> list[Synchronized]:
    """What coroutines that wait for one another return."""
    answers: list[Synchronized | None] = [None] * len(asks)

    async def one(index: int) -> None:
        answers[index] = await asks[index]

    async with anyio.create_task_group() as group:
        for index in range(len(asks)):
            group.start_soon(one, index)
    return [answer for answer in answers if answer is not None]


async def test_all_begin_at_one_centre_and_meet_at_their_mean() -> None:
    centers: Record[Weights] = Record()
    watch = Watch()
    async with System(tree(bystanders(3), centers=centers), AT_ONCE, reports=watch) as system:
        voices = [Voice(system, learner) for learner in range(3)]
        begun = [await voice.join(learning=False) for voice in voices]
        assert len({met.parameters.tobytes() for met in begun}) == 1
        assert np.ptp(begun[0].parameters) > 0, "as a network begins"
        for voice in voices:
            await voice.join(learning=True)
        met = await all_of(
            *(voice.synchronize(value, 5) for voice, value in zip(voices, (1.0, 2.0, 6.0), strict=True))
        )
        await centers.reaches(2)
    assert [each.version for each in met] == [Version(0, 15)] * 3
    assert all((each.parameters == 3.0).all() for each in met)
    first, second = centers.entries
    assert (first.version, second.version) == (Version(0, 0), Version(0, 15))
    assert (first.parameters == begun[0].parameters).all()
    assert (second.parameters == 3.0).all()
    assert watch.counts["meetings"] == 1
    assert watch.all_of("learners_met") == [3]
    assert watch.all_of("distance_to_centre") == pytest.approx([2 / 3, 1 / 3, 1])


async def test_elastic_learners_meet_the_centre_one_by_one() -> None:
    watch = Watch()
    specs = tree(bystanders(2), root=Zero, rule="elastic", elasticity=0.5)
    async with System(specs, AT_ONCE, reports=watch) as system:
        one, other = Voice(system, 0), Voice(system, 1)
        assert (await one.join(learning=True)).version == Version(0, 0)
        await other.join(learning=True)
        assert (await one.synchronize(4.0)).parameters == pytest.approx(2.0)
        assert (await one.synchronize(4.0)).parameters == pytest.approx(3.0)
        assert (await other.synchronize(0.0)).parameters == pytest.approx(1.5)
        assert (await other.join(learning=False)).parameters == pytest.approx(1.5)
    assert watch.counts["meetings"] == 3


async def test_no_learner_waits_for_one_that_learns_nothing_yet() -> None:
    async with System(tree(bystanders(2), root=Zero), AT_ONCE) as system:
        one, other = Voice(system, 0), Voice(system, 1)
        await other.join(learning=False)
        await one.join(learning=True)
        assert ((await one.synchronize(4.0)).parameters == 4.0).all()
        assert ((await other.join(learning=True)).parameters == 4.0).all()
        met, also = await all_of(other.synchronize(2.0), one.synchronize(4.0))
        assert (met.parameters == also.parameters).all()
        assert (met.parameters == 3.0).all()


async def test_a_dead_learner_is_not_waited_for_and_comes_back_to_the_centre() -> None:
    specs = tree([Bystander, Mortal], root=Zero)
    async with System(specs, AT_ONCE) as system:
        one, other = Voice(system, 0), Voice(system, 1)
        await one.join(learning=True)
        await other.join(learning=True)
        async with anyio.create_task_group() as group:
            group.start_soon(system.ref("learner.1").tell, Die())
            met = await one.synchronize(5.0)
        assert (met.parameters == 5.0).all()
        with pytest.raises(Refused, match="has ended"):
            await other.synchronize(7.0)
        again = Voice(system, 1, incarnation=1)
        assert ((await again.join(learning=True)).parameters == 5.0).all()
        met, _ = await all_of(again.synchronize(6.0), one.synchronize(8.0))
        assert (met.parameters == 7.0).all()


async def test_parameters_of_a_learner_that_dies_while_synchronizing_are_dropped() -> None:
    async with System(tree([Bystander, Mortal], root=Zero), AT_ONCE) as system:
        one, other = Voice(system, 0), Voice(system, 1)
        await one.join(learning=True)
        await other.join(learning=True)

        async def die_waiting() -> None:
            with pytest.raises(Refused, match="has ended"):
                await other.synchronize(7.0)

        async with anyio.create_task_group() as group:
            group.start_soon(die_waiting)
            await all_blocked()
            await system.ref("learner.1").tell(Die())
        assert ((await one.synchronize(5.0)).parameters == 5.0).all()


async def test_the_roots_next_incarnation_continues_from_the_last_synchronization() -> None:
    centers: Record[Weights] = Record()
    specs = tree(bystanders(2), root=MortalRoot, centers=centers)
    async with System(specs, AT_ONCE) as system:
        one, other = Voice(system, 0), Voice(system, 1)
        await one.join(learning=True)
        await other.join(learning=True)
        await all_of(one.synchronize(2.0, 10), other.synchronize(4.0, 10))
        await system.ref("root").tell(Die())
        await centers.reaches(3)
        assert centers.entries[-1].version == Version(1, 20)
        assert (centers.entries[-1].parameters == 3.0).all()
        met, also = await all_of(one.synchronize(5.0), other.synchronize(7.0))
        assert (met.parameters == 6.0).all(), "it knows who learned, and waits for all of them"
        assert also.version == Version(1, 22)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (np.full(SIZE, np.nan), "NaN or infinite"),
        (np.full(SIZE, np.inf), "NaN or infinite"),
        (np.zeros(SIZE - 1), r"parameters \[9\] in float64; the center is \[10\] in float64"),
        (np.zeros(SIZE, np.float32), "in float32; the center is"),
    ],
)
async def test_what_no_mean_can_be_made_of_is_refused(parameters: Any, reason: str) -> None:
    async with System(tree(bystanders(1), root=Zero), AT_ONCE) as system:
        one = Voice(system, 0)
        await one.join(learning=True)
        with pytest.raises(Refused, match=reason):
            await one.synchronize(parameters)
        assert ((await one.synchronize(1.0)).parameters == 1.0).all()


async def test_unauthenticated_peers_are_refused() -> None:
    async with System(tree(bystanders(1)), AT_ONCE) as system:
        with pytest.raises(Refused, match=r"learner\.7 is not one of the learners: learner\.0"):
            await Voice(system, 7).join(learning=False)


# Toys that learn by themselves.


def counting(said: Record[tuple[str, int, float]], **values: Any) -> type[Counting]:
    return fresh(Counting, said=said, **values)


async def test_between_meetings_each_goes_its_own_way() -> None:
    said: Record[tuple[str, int, float]] = Record()
    members = [counting(said, step=step) for step in (1.0, 2.0, 6.0)]
    async with System(tree(members, root=Zero), AT_ONCE, deterministic=True):
        await said.reaches(30)
    for name in ("learner.0", "learner.1", "learner.2"):
        values = [value for each, _, value in said.entries if each == name]
        assert np.diff(values)[-5:] == pytest.approx(12.0), "the mean of 4, 8 and 24"


@pytest.mark.parametrize("rule", ["mean", "elastic"])
async def test_deterministic_runs_are_equal(rule: str) -> None:
    said: list[list[tuple[str, int, float]]] = []
    for _ in range(2):
        record: Record[tuple[str, int, float]] = Record()
        members = [counting(record, step=step) for step in (1.0, 2.0, 6.0)]
        async with System(tree(members, root=Zero, rule=rule), AT_ONCE, deterministic=True):
            await record.reaches(30)
        said.append(record.entries[:30])
    assert said[0] == said[1]


@pytest.mark.parametrize("every", [1, 5, 20])
async def test_traffic_falls_with_the_period(every: int) -> None:
    """Each learner's parameters go up and the center comes down once in `every` updates."""
    said: Record[tuple[str, int, float]] = Record()
    watch = Watch()
    members = [counting(said, every=every)] * 2
    async with System(tree(members, root=Zero), AT_ONCE, deterministic=True, reports=watch):
        await watch.progress.has(("meetings", 5))
        assert watch.all_of("bytes_in_per_update")[-1] == pytest.approx(8 * SIZE / every)
        assert watch.all_of("bytes_out_per_update")[-1] == pytest.approx(8 * SIZE / every)


@pytest.mark.parametrize("rule", ["mean", "elastic"])
async def test_a_learner_dies_and_catches_up(rule: str) -> None:
    said: Record[tuple[str, int, float]] = Record()

    class Frail(Counting):
        async def before(self, update: int) -> None:
            if self.restarts == 0 and update == 50:
                raise RuntimeError("dies between two meetings")
            await super().before(update)

    members = [counting(said), fresh(Frail, said=said)]
    async with System(tree(members, root=Zero, rule=rule), AT_ONCE, deterministic=True):
        await said._until(lambda: len([1 for _, incarnation, _ in said.entries if incarnation == 1]) > 10)
    *_, last = [value for name, incarnation, value in said.entries if (name, incarnation) == ("learner.1", 0)]
    begins, *_ = [value for _, incarnation, value in said.entries if incarnation == 1]
    assert begins > 0.9 * last > 0, "it begins at the center, not at zero"


async def test_the_root_dies_and_all_continue() -> None:
    said: Record[tuple[str, int, float]] = Record()

    class Frail(Zero):
        async def _publish(self) -> None:
            await super()._publish()
            if self.restarts < 2 and self._updates >= 100 * (1 + self.restarts):
                raise RuntimeError("dies at a meeting's end")

    members = [counting(said)] * 2
    async with System(tree(members, root=Frail), AT_ONCE, deterministic=True):
        await said._until(lambda: said.entries[-1:] != [] and said.entries[-1][2] >= 400)
    values = [value for name, _, value in said.entries if name == "learner.0"]
    assert values == sorted(values), "nothing is lost"


async def test_no_synchronization_without_learners_refused_at_the_end() -> None:
    """The loop may go on for a moment after it was cancelled, with all there that it waits for."""
    held: list[tuple[int, ...]] = []

    class SignalScope(Zero):
        def on_drain(self) -> None:
            self._rule.left(1)
            super().on_drain()
            held.append(self._rule.next())

    async with System(tree(bystanders(2), root=SignalScope), AT_ONCE) as system:
        one, other = Voice(system, 0), Voice(system, 1)
        await one.join(learning=True)
        await other.join(learning=True)
        async with anyio.create_task_group() as group:
            group.start_soon(one.synchronize, 1.0)
            await all_blocked()
            group.cancel_scope.cancel()
    assert held == [()]
