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
    """A micro-batch has passed the rest of the network, forward and backward."""

    gradients: Tensors
    """Of what was sent for s_t; empty from the first stage."""
    td_errors: NDArray[np.float32]
    """[rows], one task's after another's."""
    loss: float
    """Its share of the batch's mean."""
    square_norm: float
    """Of the gradients that are complete with it, of this stage and those after it; 0 for all others."""


class Flow(Request[Returned], frozen=True):
    """Take a micro-batch forward, and on to the next stage; answered when it has come back.

    Refused for another incarnation's version. One of an update to come waits for the update before.
    """

    version: Version
    """Of the parameters to compute with."""
    number: int
    """Of the update's micro-batches, …"""
    count: int
    """… which are so many."""
    size: int
    """Transitions of the whole batch."""
    inputs: Activations
    outcomes: tuple[Outcomes, ...]
    """Of each task, for the last stage."""


class Columns(Message, frozen=True):
    """Some columns of a layer's outputs."""

    outputs: Activations


class ComputeColumns(Request[Columns], frozen=True):
    """Compute a stage's share of the columns of a layer that several hold between them."""

    version: Version
    number: int
    inputs: Activations
    rows: tuple[int, ...]
    """Of each task."""


class Partial(Message, frozen=True):
    """What some columns add to the gradient of their layer's inputs."""

    gradients: Tensors
    square_norm: float
    """As in `Returned`, of the columns' parameters."""


class ReturnColumns(Request[Partial], frozen=True):
    """The way back through these columns."""

    version: Version
    number: int
    count: int
    gradients: Tensors


# Acting.


class Evaluated(Message, frozen=True):
    outputs: Tensors
    """Of each task, [rows, actions]; from columns, theirs."""


class Evaluate(Request[Evaluated], frozen=True):
    """Take observations forward, through this stage and on to the next, or through its columns alone.

    Refused, as PASSED, for a version that the stage has left behind.
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
    """From the batch's start until all its micro-batches had come back."""


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
    """Go on with other parameters than those of this version; they are no update."""

    version: Version
    parameters: NDArray[Any]
    """A stage's slice."""
    anew: bool
    """Whether the target network takes them over too, as at a beginning."""


# Restoring.


class Halted(Message, frozen=True):
    """What a stage can go on from."""

    incarnation: int
    versions: tuple[Version, ...]
    """Oldest first; each of the incarnation that made it."""
    part: StagePart | None
    """What it holds; None before it was told."""


class HaltStage(Request[Halted], frozen=True):
    """Drop what is in flight, take nothing more, and say what there is to go on from."""


class Resumed(Message, frozen=True):
    pass


class Resume(Request[Resumed], frozen=True):
    """Go on from a version, under a new incarnation."""

    incarnation: int
    origin: Version
    stage: int
    """Which of the parts is this stage's."""
    parts: tuple[StagePart, ...]
    """Of all stages."""
    seed: int
    """Of the whole network's initial parameters."""
