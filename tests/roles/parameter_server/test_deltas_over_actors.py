"""Weights as differences, read under load: all readers of a version have the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.actors import State, System, handles
from actorq.learning.agent import Agent
from actorq.roles.parameter_server.messages import Fetch, Fetched, Keep, Pulled
from actorq.roles.parameter_server.shard import ParameterServer
from actorq.roles.replay.messages import Version
from actorq.testing import Record
from tests.actors.world import AT_ONCE, TRANSPORTS, World, fresh
from tests.roles.topologies import Diligent, crew

from .server import Workers, server
from .test_parameter_server import gradients, kill

pytestmark = pytest.mark.anyio

AGENT = Agent(hidden=(32, 16), batch_size=2, learning_rate=0.01, target_every_updates=3)
WORKERS, SHARDS = 4, 3

Form = Literal["delta_float16", "delta_int8"]
RELATIVE = {"delta_float16": 2.0**-11, "delta_int8": 0.5 / 127}
"""A link's error at most, by the largest number in it."""


class Copies(NamedTuple):
    parameters: NDArray[Any]
    handed_out: NDArray[Any]


class Copying(ParameterServer):
    """Notes each version: its own parameters, and what its readers are to hold."""

    noted: ClassVar[dict[tuple[int, Version], Copies]]

    @handles
    async def keep(self, message: Keep) -> None:
        await super().keep(message)
        assert self._shard.updates == message.updates
        kept = self._readers._kept[message.updates]
        version = Version(message.incarnation, message.updates)
        self.noted[self.index, version] = Copies(self._shard.vector.numpy().copy(), kept.parameters.copy())


class Reading(Diligent):
    """Notes all that it reads."""

    read: ClassVar[Record[tuple[Version, NDArray[Any]]]]

    async def on_start(self) -> None:
        await super().on_start()
        take_over = self._method._take_over

        async def noting(pulled: Pulled) -> None:
            await take_over(pulled)
            assert self._method.version == pulled.version
            self.read.add((pulled.version, self._method.online.read()))

        self._method._take_over = noting  # type: ignore[method-assign]


def in_order(noted: dict[tuple[int, Version], Copies], shard: int) -> Iterator[Copies]:
    mine = {version: copies for (index, version), copies in noted.items() if index == shard}
    return (mine[version] for version in sorted(mine, key=lambda version: version.updates))


@pytest.mark.parametrize(("transport", "nodes"), [("inproc", 1), ("nng-ipc", 3)])
@pytest.mark.parametrize("form", ["delta_float16", "delta_int8"])
async def test_all_readers_of_a_version_hold_the_same(form: Form, transport: str, nodes: int) -> None:
    read, noted = Record[tuple[Version, NDArray[Any]]](), dict[tuple[int, Version], Copies]()
    specs = crew(
        fresh(Reading, read=read),
        WORKERS,
        SHARDS,
        AGENT,
        shard=fresh(Copying, noted=noted),
        shard_config=ParameterServer.Config(weights=form),
    )
    async with World(TRANSPORTS[transport], nodes).system(*specs) as system:
        await read.reaches(120)
    assert not any(actor.crashes for actor in system.statistics().actors)
    for version, vector in read.entries:
        held = np.concatenate([noted[shard, version].handed_out for shard in range(SHARDS)])
        assert vector.tobytes() == held.tobytes()
    for shard in range(SHARDS):
        for before, after in pairwise(in_order(noted, shard)):
            difference = np.abs(after.parameters - before.handed_out).max()
            error = np.abs(after.parameters - after.handed_out).max()
            # The last two are for float16's smallest numbers, and for what float32 rounds in θ itself.
            assert error <= RELATIVE[form] * difference * 1.0001 + 2.0**-25 + 2.0**-23


async def test_most_of_what_is_sent_are_differences() -> None:
    """To a reader that goes on from version to version, all but the first."""
    specs = server(2, shard_config=ParameterServer.Config(weights="delta_int8"))
    async with System(specs, AT_ONCE) as system:
        workers = Workers(system, 2)
        pulled = await workers.pull()
        before = pulled.version
        whole = await fetched(workers, before, None)
        assert all(each.whole is not None and not each.deltas for each in whole)
        for pushed in gradients(5):
            after = (await workers.push(pushed, before)).pulled
            assert after is not None
            links = await fetched(workers, after.version, before)
            assert all(each.whole is None and len(each.deltas) == 1 for each in links)
            before = after.version


async def fetched(workers: Workers, version: Version, have: Version | None) -> list[Fetched]:
    return [await server.ask(Fetch(0, version, have, None)) for server in workers.servers]


@pytest.mark.parametrize("form", ["whole", "delta_float16", "delta_int8"])
@pytest.mark.parametrize("dying", ["server.1", "coordinator", "all"])
async def test_a_server_that_was_restarted_hands_out_whole_weights_first(form: Any, dying: str) -> None:
    """Whatever the reader has, the same number of updates too; and from then on differences again."""
    specs = server(2, shard_config=ParameterServer.Config(weights=form))
    async with System(specs, AT_ONCE) as system:
        workers = Workers(system, 2)
        had = (await workers.pull()).version
        for pushed in gradients(3):
            had = await pushed_on(workers, pushed, had)
        if dying != "all":
            await kill(system, dying)
            await check_whole_first(workers, had, form)
            return
    states: dict[str, State] = system.final_states
    async with System(specs, AT_ONCE, states=states) as system:
        workers = Workers(system, 2)
        assert (await workers.pull()).version.updates == had.updates
        await check_whole_first(workers, had, form)


async def check_whole_first(workers: Workers, had: Version, form: str) -> None:
    version = (await workers.pull()).version
    assert version.incarnation > had.incarnation
    for have in (had, Version(had.incarnation, version.updates)):
        for each in await fetched(workers, version, have):
            assert each.whole is not None
            assert not each.deltas
    again = await pushed_on(workers, gradients(1)[0], version)
    for each in await fetched(workers, again, version):
        assert (each.whole is None) == (form != "whole")


async def pushed_on(workers: Workers, gradient: NDArray[Any], version: Version) -> Version:
    pulled = (await workers.push(gradient, version)).pulled
    assert pulled is not None
    return pulled.version
