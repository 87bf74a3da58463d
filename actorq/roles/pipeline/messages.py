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
"""Reason of a stage's refusal of requests of an incarnation that has ended."""

PASSED = "the stage is past this version"
"""Reason of a stage's refusal of requests of a version that an update has replaced."""

# Micro-batches.


class Returned(Message, frozen=True):
    """Result of a micro-batch in the rest of the network, forward and backward."""

    gradients: Tensors
    """With respect to the activations sent for s_t; empty from the first stage."""
    priorities: NDArray[np.float32]
    """[rows] priorities, task after task."""
    loss: float
    """The micro-batch's share of the batch's mean."""
    square_norm: float
    """Of the gradients that are complete with it, of this stage and those after it; 0 for all others."""


class Flow(Request[Returned], frozen=True):
    """Compute a micro-batch forward, send it to the next stage, and compute it backward after the reply.

    Refused for another incarnation's version. A micro-batch of a later update waits for the update before.
    """

    version: Version
    """Version of the parameters to compute with."""
    number: int
    """Number of the micro-batch within the update."""
    count: int
    """Number of the update's micro-batches."""
    size: int
    """Number of transitions of the whole batch."""
    inputs: Activations
    outcomes: tuple[Outcomes, ...]
    """Outcomes of each task, for the last stage."""


class Columns(Message, frozen=True):
    """Some columns of a layer's outputs."""

    outputs: Activations


class ComputeColumns(Request[Columns], frozen=True):
    """Compute the output columns that a stage has of a layer that several stages share."""

    version: Version
    number: int
    inputs: Activations
    rows: tuple[int, ...]
    """Number of rows of each task."""


class Partial(Message, frozen=True):
    """The part of the gradient of a layer's inputs that comes from some columns."""

    gradients: Tensors
    square_norm: float
    """As in `Returned`, of the columns' parameters."""


class ReturnColumns(Request[Partial], frozen=True):
    """Compute backward through these columns."""

    version: Version
    number: int
    count: int
    gradients: Tensors


# Acting.


class Evaluated(Message, frozen=True):
    outputs: Tensors
    """Outputs of each task, [rows, actions]; of columns alone, their outputs."""


class Evaluate(Request[Evaluated], frozen=True):
    """Compute observations forward, through this stage and the next ones, or through its columns alone.

    Refused, as PASSED, for a version that an update has replaced.
    """

    version: Version
    inputs: Tensors
    rows: tuple[int, ...]
    """Number of rows of each task."""
    columns_only: bool = False


# An update.


class StepStage(Message, frozen=True):
    """Make the update that follows a version."""

    version: Version
    factor: float
    """Factor of the gradient."""
    seconds: float
    """From the batch's start until all its micro-batches were answered."""


# Reading.


class Slice(Message, frozen=True):
    parameters: NDArray[Any]


class Read(Request[Slice], frozen=True):
    """Copy a stage's slice of the online parameters, of exactly this version."""

    version: Version


# Writing.


class WriteParameters(Request[None], frozen=True):
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
    """Oldest first, each with the incarnation that made it."""
    part: StagePart | None
    """The part that the stage holds; None before its first `Resume`."""


class HaltStage(Request[Halted], frozen=True):
    """Drop what is in flight, refuse new requests, and list the versions that can be restored."""


class Resume(Request[None], frozen=True):
    """Continue from a version, under a new incarnation."""

    incarnation: int
    origin: Version
    stage: int
    """Index of this stage's part."""
    parts: tuple[StagePart, ...]
    """Parts of all stages."""
    seed: int
    """Seed of the whole network's initial parameters."""
