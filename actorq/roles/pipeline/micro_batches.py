"""An update's batches in micro-batches, and what came of each in one piece again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actorq.learning.pipeline.activations import Activations, Outcomes
from actorq.replay.chunk import Batch
from actorq.roles.replay.messages import Version

from .messages import Flow


def micro_batches(batches: Sequence[Batch], count: int, version: Version, *, double: bool) -> list[Flow]:
    """`count` requests to the first stage, as even as can be; of each task a share of its batch."""
    size = sum(len(batch) for batch in batches)
    return [_flow(number, count, batches, size, version, double) for number in range(count)]


def _rows(size: int, number: int, count: int) -> slice:
    return slice(size * number // count, size * (number + 1) // count)


def _flow(
    number: int,
    count: int,
    batches: Sequence[Batch],
    size: int,
    version: Version,
    double: bool,
) -> Flow:
    pairs = [(batch, _rows(len(batch), number, count)) for batch in batches]
    now = tuple(batch.observations[rows] for batch, rows in pairs)
    later = tuple(batch.next_observations[rows] for batch, rows in pairs)
    outcomes = tuple(
        Outcomes(batch.actions[rows], batch.returns[rows], batch.discounts[rows], batch.weights[rows])
        for batch, rows in pairs
    )
    return Flow(version, number, count, size, Activations(now, later if double else (), later), outcomes)


def join_errors(flows: Sequence[Flow], errors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The batch's TD errors, one task's after another's, of each micro-batch's."""
    shares = [
        np.split(found, np.cumsum([len(outcome.actions) for outcome in flow.outcomes])[:-1])
        for flow, found in zip(flows, errors, strict=True)
    ]
    return np.concatenate([share for task in zip(*shares, strict=True) for share in task])
