"""Averaging tree on nodes that are killed: the others continue, and killed ones are restarted."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest

from actorq.actors import ActorSpec
from actorq.launchers.node_setup import NodeSetup
from actorq.launchers.process.launcher import ProcessLauncher, ProcessNode
from actorq.roles.averaging.server import AveragingServer
from actorq.roles.replay.messages import Weights
from actorq.testing import Record
from tests.actors.world import spec
from tests.roles.actors import WeightsRecorder
from tests.roles.averaging.tree import Noting, learners

from .actors import Board
from .nodes import actor, board, running

__all__ = ["board"]


def spread(nodes: Mapping[str, str], board: Board, root: type[AveragingServer]) -> list[ActorSpec]:
    """Two groups and their root, each on main or on its node."""
    specs = [replace(each, node=nodes.get(each.name, "main")) for each in learners(2, 20, root=root)]
    return [*specs, *(actor(f"on-{node}", node, board) for node in dict.fromkeys(nodes.values()))]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.anyio
async def test_a_group_is_killed(anyio_backend: Any, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    meetings: Record[tuple[int, ...]] = Record()
    monkeypatch.setattr(Noting, "meetings", meetings, raising=False)
    specs = spread({"spring.1": "edge1", "learner.1": "edge1"}, board, Noting)
    async with running(anyio_backend, specs, timeout=100):
        await meetings.has((0, 1))
        before = len(meetings.entries)
        real, alone = ProcessLauncher.launch, anyio.Event()

        async def launch_once_alone(processes: ProcessLauncher, setup: NodeSetup) -> ProcessNode:
            await alone.wait()
            return await real(processes, setup)

        monkeypatch.setattr(ProcessLauncher, "launch", launch_once_alone)
        os.kill(int(await board.reads("on-edge1 starting")), signal.SIGKILL)
        await meetings._until(lambda: (0,) in meetings.entries[before:])
        before = len(meetings.entries)
        alone.set()
        await meetings._until(lambda: (0, 1) in meetings.entries[before:])


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_the_root_is_killed(anyio_backend: Any, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Record[Weights] = Record()
    monkeypatch.setattr(WeightsRecorder, "record", seen, raising=False)
    specs = [
        *spread({"root": "top"}, board, AveragingServer),
        spec("evaluator", WeightsRecorder, {"weights": "root"}),
    ]
    async with running(anyio_backend, specs, timeout=100):
        await seen.reaches(10)
        os.kill(int(await board.reads("on-top starting")), signal.SIGKILL)
        await seen._until(lambda: seen.entries[-1].version.incarnation == 1)
        again = seen.entries[-1].version.updates
        await seen._until(lambda: seen.entries[-1].version.updates >= again + 400)
    before = [each.version.updates for each in seen.entries if each.version.incarnation == 0]
    assert again >= before[-1] - 3 * 2 * 20, "it goes on from the last meetings that were kept"
