"""Pipeline whose stages are killed: it continues, and all stages are at the same update."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from actorq.learning.networks.numpy_acting import make_policy
from actorq.roles.pipeline.stage import Stage
from actorq.roles.replay.messages import Weights
from actorq.testing import Record
from tests.actors.world import fresh, spec
from tests.roles.actors import WeightsRecorder
from tests.roles.pipeline.pipelines import SMALL, held, pipeline

from .actors import Board
from .nodes import Heard, actor, board, running

__all__ = ["board"]

RESTORE_WITHIN = 20


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_pipeline_outlives_its_stages(anyio_backend: Any, board: Board) -> None:
    reports, seen = Heard(), Record[Weights]()
    nodes = {"stage.0": "first", "stage.1": "second"}
    specs = [
        *pipeline(
            2,
            100_000,
            SMALL,
            stage_config=Stage.Config(torch_threads=1, restore_within_updates=RESTORE_WITHIN),
            nodes=nodes,
            publish_every_updates=1,
        ),
        spec("recorder", fresh(WeightsRecorder, record=seen), {"weights": "learner"}),
        *(actor(f"on-{node}", node, board) for node in nodes.values()),
    ]
    incarnations = dict.fromkeys(nodes.values(), 1)
    async with running(anyio_backend, specs, timeout=55, reports=reports) as system:
        await reports.reaches("updates", 30)
        for node in ("second", "first"):
            pid = int(await board.reads(f"on-{node} starting", incarnations[node]))
            incarnations[node] += 1
            os.kill(pid, signal.SIGKILL)
            await reports.reaches("updates", reports.counts["updates"] + 30)
    versions = [weights.version for weights in seen.entries]
    numbers = sorted({version.incarnation for version in versions})
    assert len(numbers) >= 3, "the first, and one more after each death"
    assert reports.counts["updates_lost"] <= 2 * RESTORE_WITHIN
    for before, after in pairwise(versions):
        assert after.incarnation >= before.incarnation
        if after.incarnation == before.incarnation:
            assert after.updates > before.updates
    assert held(system.final_states, 2, SMALL).shape == (make_policy(SMALL, (4,), np.float32, 2).size,)
    assert all(np.isfinite(weights.parameters).all() for weights in seen.entries)
    assert not any(each.crashes for each in system.statistics().actors), "nothing but nodes has ended"
