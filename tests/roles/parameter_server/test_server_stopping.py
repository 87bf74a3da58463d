"""A parameter server stops at once, in any state."""

from __future__ import annotations

from typing import ClassVar

import anyio
import pytest

from actorq.actors import ActorSpec, Refused, System, handles
from actorq.roles.parameter_server.messages import Combine, Keep, SliceNorm
from actorq.roles.parameter_server.shard import ParameterServer
from actorq.roles.replay.messages import Weights
from actorq.testing import Record
from tests.actors.world import AT_ONCE, all_blocked, fresh, spec
from tests.roles.actors import WeightsRecorder

from .server import Workers, server
from .test_parameter_server import gradients

pytestmark = pytest.mark.anyio


class KeepsTheFirst(ParameterServer):
    """Who fetches a later version waits, until the run stops."""

    @handles
    async def keep(self, message: Keep) -> None:
        if message.updates == 0:
            await super().keep(message)


async def test_while_weights_are_published() -> None:
    record: Record[Weights] = Record()
    specs = server(1, shard=KeepsTheFirst, publish_every_updates=1)
    async with System([*specs, _recorder(record)], AT_ONCE) as system:
        workers = Workers(system)
        version = (await workers.pull()).version
        await record.reaches(1)
        for pushed in gradients(3):
            pulled = (await workers.push(pushed, version)).pulled
            assert pulled is not None
            version = pulled.version
        await all_blocked()  # the coordinator fetches what it is to publish
    assert [each.version.updates for each in record.entries] == [0]
    assert system.statistics().dead_letters == 0


def _recorder(record: Record[Weights]) -> ActorSpec:
    return spec("recorder", fresh(WeightsRecorder, record=record), {"weights": "coordinator"})


class Thorough(ParameterServer):
    """Makes a mean for as long as the run goes on."""

    combining: ClassVar[Record[Combine]]

    async def on_start(self) -> None:
        await super().on_start()
        self._enough = self.event()

    @handles
    async def combine(self, request: Combine) -> SliceNorm:
        self.combining.add(request)
        await self._enough.wait()
        return await super().combine(request)

    def on_drain(self) -> None:
        super().on_drain()
        self._enough.set()


async def test_while_a_mean_is_made(caplog: pytest.LogCaptureFixture) -> None:
    record: Record[Combine] = Record()
    refused: dict[int, str] = {}
    specs = server(1, shard=fresh(Thorough, combining=record), rule="synchronous")
    async with anyio.create_task_group() as tasks, System(specs, AT_ONCE) as system:
        workers = Workers(system)
        version = (await workers.pull(0)).version
        assert (await workers.pull(1)).version == version

        async def push(worker: int) -> None:
            with pytest.raises(Refused) as refusal:
                await workers.push(gradients(1)[0], version, worker)
            refused[worker] = refusal.value.reason

        tasks.start_soon(push, 0)
        tasks.start_soon(push, 1)
        await record.reaches(1)
    assert refused == {0: "the run is stopping", 1: "the run is stopping"}
    assert system.statistics().dead_letters == 0
    assert "not drained" not in caplog.text
