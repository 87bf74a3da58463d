"""Parameter server under failures: deaths at critical moments, and actors that are not restarted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.actors import GroupSpec, Message, Refused, RestartLimits, System, handles
from actorq.roles.common.incarnation_fence import IncarnationFence
from actorq.roles.common.recovery import BEGINNING, newest_common
from actorq.roles.parameter_server.messages import ListVersions, Push, Restore, VersionList
from actorq.roles.parameter_server.recovery import restore
from actorq.roles.parameter_server.shard import ParameterServer
from actorq.roles.replay.messages import Version
from tests.actors.world import AT_ONCE, fresh

from .server import Bystander, Workers, server
from .test_parameter_server import gradients, kill

pytestmark = pytest.mark.anyio


def versions(*pairs: tuple[int, int]) -> tuple[Version, ...]:
    return tuple(Version(*pair) for pair in pairs)


def standing(*versions: tuple[int, int], incarnation: int = 1) -> VersionList:
    return VersionList(incarnation, tuple(Version(*version) for version in versions))


async def updated(workers: Workers, gradient: NDArray[Any], version: Version) -> Version:
    """The version that comes of worker 0's gradient."""
    pulled = (await workers.push(gradient, version, 0)).pulled
    assert pulled is not None
    return pulled.version


# Which version to go back to.


def test_the_newest_that_all_have() -> None:
    assert newest_common([versions((1, 0), (1, 50), (1, 53)), versions((1, 50), (1, 51))]) == Version(1, 50)


def test_updates_made_anew_lead_to_another_version() -> None:
    """One shard's snapshot is from before a restoration, the other has gone on since."""
    one, other = versions((1, 50), (1, 51), (1, 100)), versions((1, 50), (2, 51), (2, 100))
    assert newest_common([one, other]) == Version(1, 50)


def test_a_shard_that_has_nothing_yet_has_the_beginning() -> None:
    assert newest_common([versions(), versions()]) == BEGINNING
    assert newest_common([versions((0, 0), (1, 7)), versions()]) == BEGINNING


def test_without_a_common_version_the_error_lists_them() -> None:
    with pytest.raises(RuntimeError, match="in common: 50 of incarnation 1, 100 of incarnation 1; none"):
        newest_common([versions((1, 50), (1, 100)), versions()])


class Standings:
    """Shards' stand-in, with what they were told."""

    def __init__(self, *answers: VersionList) -> None:
        self.answers = list(answers)
        self.told: list[Restore] = []

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Any:
        return iter([self] * len(self))

    def all(self) -> Any:
        outer = self

        class All:
            async def ask(self, request: ListVersions) -> list[VersionList]:
                return outer.answers

        return All()

    async def ask(self, request: Restore) -> None:
        self.told.append(request)


async def test_an_incarnation_is_never_used_twice() -> None:
    shards: Any = Standings(standing((0, 0), (3, 5), incarnation=3))
    found = await restore(shards, lambda: np.zeros(4), Version(7, 5), skipping=2, compensating=False)
    assert found == Version(10, 5)
    assert [(each.incarnation, each.origin) for each in shards.told] == [(10, Version(3, 5))]
    found = await restore(shards, lambda: np.zeros(4), Version(0, 5), skipping=0, compensating=False)
    assert found == Version(4, 5)


async def test_a_shard_that_dies_right_after_a_restoration_finds_one_in_common() -> None:
    """Its snapshot is older than what the others have gone back to: they still have what it has."""
    stale = fresh(ParameterServer, keep_snapshot=_only_at_points)
    specs = server(2, shard_config=ParameterServer.Config(restore_within_updates=10), shard=stale)
    async with System(specs, AT_ONCE) as system:
        workers = Workers(system, 2)
        version = (await workers.pull()).version
        for pushed in gradients(9):
            version = await updated(workers, pushed, version)
        await kill(system, "coordinator")
        assert (await workers.pull()).version.updates == 9
        await kill(system, "server.1")
        pulled = await workers.pull()
        assert pulled.version.updates == 5
        assert (await workers.push(gradients(1)[0], pulled.version)).delivery_state == "accepted"


def _only_at_points(self: Any) -> None:
    """A snapshot that comes too late is none."""
    if self._shard.updates in (0, 5):
        ParameterServer.keep_snapshot(self)


async def test_a_shards_death_is_detected_however_often_the_coordinator_has_died() -> None:
    """What its earlier lives had asked isn't in the way of what this one asks."""
    often = (GroupSpec(limits=RestartLimits(max_restarts=20, backoff_seconds=0.0)),)
    async with System(server(2), often) as system:
        workers = Workers(system, 2)
        before = (await workers.pull()).version
        for death in [*["coordinator"] * 9, "server.1"]:
            await kill(system, death)
            pulled = await workers.pull()
            assert pulled.version.incarnation > before.incarnation
            before = pulled.version
        await workers.read(pulled)
        for pushed in gradients(3):
            before = await updated(workers, pushed, before)
        assert before.updates == 3


# Workers who die.


def test_requests_of_an_ended_incarnation_are_told_from_those_of_the_next() -> None:
    incarnations = IncarnationFence(3)
    incarnations.admit(1, 0)
    assert not incarnations.has_ended(1, 0)
    incarnations.end(1, 0)
    assert list(incarnations.down()) == [1]
    with pytest.raises(Refused, match="has ended"):
        incarnations.admit(1, 0)
    incarnations.admit(1, 1)
    assert list(incarnations.down()) == []
    incarnations.end(2, 0)
    assert list(incarnations.down()) == [2]
    with pytest.raises(Refused, match="no worker 3; there are 3"):
        incarnations.admit(3, 0)


class Die(Message):
    pass


class Mortal(Bystander):
    @handles
    async def die(self, message: Die) -> None:
        raise RuntimeError("told to die")


async def test_no_worker_waits_for_one_that_never_restarts() -> None:
    *others, last = server(2, rule="synchronous")
    async with System([*others, replace(last, cls=Mortal, restart="never")], AT_ONCE) as system:
        workers = Workers(system, 2)
        version = (await workers.pull(0)).version
        assert (await workers.pull(1)).version == version
        await system.ref(last.name).tell(Die())
        for pushed in gradients(3):
            version = await updated(workers, pushed, version)
        with pytest.raises(Refused, match="has ended"):
            await workers.push(gradients(1)[0], version, 1)
        with pytest.raises(Refused, match="has ended"):
            await workers.pull(1)
        for pushed in gradients(3):
            version = await updated(workers, pushed, version)
        assert version.updates == 6
    assert system.statistics().dead_letters == 1, "the message over which it crashed"


async def test_a_slice_that_comes_after_its_refusal_is_not_kept() -> None:
    async with System(server(1), AT_ONCE) as system:
        workers = Workers(system)
        version = (await workers.pull()).version
        future = Version(version.incarnation, 9)
        ticket = workers.ticket(0)
        with pytest.raises(Refused, match="from the future"):
            await workers.coordinator.ask(Push(ticket, future, 0, 0))
        assert (await workers.push(gradients(1)[0], version)).delivery_state == "accepted"
        await workers.send(gradients(1)[0], future, ticket)
        await workers.read(await workers.pull())
        shard: Any = system._local.cells["server"].actor
        assert not shard._gradients
        assert not shard._discarded
