"""Protocol between a pipeline's learner and its stages, and among the stages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from actorq.actors import Message, Request
from actorq.learning.pipeline.activations import Activations, Outcomes, Tensors
from actorq.learning.pipeline.partition import StagePart
from actorq.roles.replay.messages import Version

RESTORING = "the pipeline is being restored"
"""Why a stage refuses requests of an incarnation that has ended."""

PASSED = "the stage is past this version"
"""Why a stage refuses requests of a version that an update has replaced."""

# Micro-batches.


class Returned(Message, frozen=True):
    """The result of a micro-batch in the rest of the network, forward and backward."""

    gradients: Tensors
    """With respect to the activations sent for s_t; empty from the first stage."""
    td_errors: NDArray[np.float32]
    """[rows], one task's after another's."""
    loss: float
    """Its share of the batch's mean."""
    square_norm: float
    """Of the gradients that are complete with it, of this stage and those after it; 0 for all others."""


class Flow(Request[Returned], frozen=True):
    """Compute a micro-batch forward, send it to the next stage, and backward when that has answered.

    Refused for another incarnation's version. A micro-batch of a later update waits for the update before.
    """

    version: Version
    """Of the parameters to compute with."""
    number: int
    """Which of the update's micro-batches."""
    count: int
    """How many micro-batches the update has."""
    size: int
    """Transitions of the whole batch."""
    inputs: Activations
    outcomes: tuple[Outcomes, ...]
    """Of each task, for the last stage."""


class Columns(Message, frozen=True):
    """Some columns of a layer's outputs."""

    outputs: Activations


class ComputeColumns(Request[Columns], frozen=True):
    """Compute the output columns that a stage holds of a layer that several stages share."""

    version: Version
    number: int
    inputs: Activations
    rows: tuple[int, ...]
    """Of each task."""


class Partial(Message, frozen=True):
    """The part of the gradient of a layer's inputs that comes from some columns."""

    gradients: Tensors
    square_norm: float
    """As in `Returned`, of the columns' parameters."""


class ReturnColumns(Request[Partial], frozen=True):
    """Backward through these columns."""

    version: Version
    number: int
    count: int
    gradients: Tensors


# Acting.


class Evaluated(Message, frozen=True):
    outputs: Tensors
    """Of each task, [rows, actions]; from columns, the outputs of those."""


class Evaluate(Request[Evaluated], frozen=True):
    """Compute observations forward, through this stage and the next ones, or through its columns alone.

    Refused, as PASSED, for a version that an update has replaced.
    """

    version: Version
    inputs: Tensors
    rows: tuple[int, ...]
    """Of each task."""
    columns_only: bool = False


# An update.


class StepStage(Message, frozen=True):
    """Make the update that follows a version."""

    version: Version
    factor: float
    """Of the gradient."""
    seconds: float
    """From the batch's start until all its micro-batches were answered."""


# Reading.


class Slice(Message, frozen=True):
    parameters: NDArray[Any]


class Read(Request[Slice], frozen=True):
    """Copy a stage's slice of the online parameters, of exactly this version."""

    version: Version


# Writing.


class Written(Message, frozen=True):
    pass


class WriteParameters(Request[Written], frozen=True):
    """Replace the parameters of this version; this is not an update."""

    version: Version
    parameters: NDArray[Any]
    """A stage's slice."""
    with_target: bool
    """Whether the target network is replaced too, as at the start."""


# Restoring.


class Halted(Message, frozen=True):
    """The versions that a stage can be restored to."""

    incarnation: int
    versions: tuple[Version, ...]
    """Oldest first; each of the incarnation that made it."""
    part: StagePart | None
    """The part that the stage holds; None before its first `Resume`."""


class HaltStage(Request[Halted], frozen=True):
    """Drop what is in flight, refuse new requests, and list the versions that can be restored."""


class Resumed(Message, frozen=True):
    pass


class Resume(Request[Resumed], frozen=True):
    """Continue from a version, under a new incarnation."""

    incarnation: int
    origin: Version
    stage: int
    """Which of the parts is this stage's."""
    parts: tuple[StagePart, ...]
    """Of all stages."""
    seed: int
    """Of the whole network's initial parameters."""
