"""What workers, the parameter server's shards and its coordinator say to each other."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from numpy.typing import NDArray

from actorq.actors import Message, Request
from actorq.learning.distributed.encoded import Encoded
from actorq.roles.replay.messages import Version


class Ticket(msgspec.Struct, frozen=True, order=True):
    """Names one gradient, wherever its slices are."""

    worker: int
    incarnation: int
    """The worker's restarts."""
    number: int
    """Of the worker's gradients in this life, from 1."""


# A worker and the coordinator.


class Left(Message, frozen=True):
    """The actor ends in order; one that dies leaves its `Attend` to an ActorDied."""


class Attend(Request[Left], frozen=True):
    """Answered when the actor ends: who waits for it learns of a death at once."""


class Pulled(Message, frozen=True):
    """The version that all shards keep for the reader."""

    version: Version
    target_updates: int
    """After how many updates the target network was refreshed last."""
    rows: int | None = None
    """Transitions that the reader's gradient is to be of; None: as many as its own settings have."""


class Pull(Request[Pulled], frozen=True):
    """Have the newest version kept, to be fetched from each shard."""

    worker: int
    computing: bool
    """Whether a gradient of it will follow, for which the update rule may wait."""
    incarnation: int = 0
    """The worker's restarts."""


class Pushed(Message, frozen=True):
    """What became of a gradient, and the version to go on with."""

    delivery_state: Literal["accepted", "scaled", "late", "stale"]
    pulled: Pulled | None
    """None for a worker that goes on with what it has."""


class Push(Request[Pushed], frozen=True):
    """Apply a gradient whose slices were sent to the shards. Answered as the update rule has it.

    Refused for a version that is not the server's: of an earlier incarnation, or from the future; and for
    what a shard refuses: NaN or infinite numbers, a wrong length, an unknown codec.
    """

    ticket: Ticket
    version: Version
    """Of the parameters it was computed with."""
    bytes: int
    """Of the gradient, as sent."""
    bytes_fetched: int
    """Of the weights the worker has fetched since its last push."""
    reads: bool = True
    """Whether the worker wants the version that comes of it; where nobody waits, it need not."""
    rows: int = 1
    """Transitions that it is the mean over, at least 1."""


# A worker and a shard.


class Gradient(Message, frozen=True):
    """A shard's slice of a gradient."""

    ticket: Ticket
    version: Version
    slice: Encoded


class Fetched(Message, frozen=True):
    """A shard's slice of the parameters, whole or as differences to what the reader has."""

    whole: NDArray[Any] | None
    deltas: tuple[Encoded, ...]
    """Each to be added to the one before; with `whole` None and no deltas, the reader has it already."""
    target: NDArray[Any] | None
    """None if the reader has it already."""


class Fetch(Request[Fetched], frozen=True):
    """Read a slice of a version that the coordinator had kept. Refused if the shard keeps it no longer."""

    worker: int
    """Its index; negative for readers that push no gradients."""
    version: Version
    have: Version | None
    """The version of the parameters that the reader holds, if any."""
    have_target: int | None
    """After how many updates, in the same incarnation, the reader's target was refreshed."""


# The coordinator and a shard.


class SliceNorm(Message, frozen=True):
    square_norm: float
    """Of the slice; finite."""


class GetSliceNorm(Request[SliceNorm], frozen=True):
    """Check a slice and say its square norm; answered when the slice is there, Refused if it is unusable."""

    ticket: Ticket


class Combine(Request[SliceNorm], frozen=True):
    """Make the sum of gradients, each times its factor, the next to be applied, and say its square norm."""

    incarnation: int
    tickets: tuple[Ticket, ...]
    factors: tuple[float, ...]
    compensation: float
    """DC-ASGD's lambda; 0 leaves each gradient as it is."""


class Apply(Message, frozen=True):
    """Make one update: with what was combined, or else with the one gradient named."""

    incarnation: int
    updates: int
    """The version this update leads to."""
    ticket: Ticket | None
    """None: what was combined."""
    factor: float
    """Of the gradient."""
    step: float
    """Of the step size."""


class Keep(Message, frozen=True):
    """Copy the slice as it is, for those who will fetch this version."""

    incarnation: int
    updates: int


class Discard(Message, frozen=True):
    """Gradients that will not be applied."""

    tickets: tuple[Ticket, ...]


class Forget(Message, frozen=True):
    """A worker has died: nothing of that life, nor of those before, is worth waiting for."""

    worker: int
    incarnation: int


class VersionList(Message, frozen=True):
    """The versions a shard can be set back to, newest last."""

    incarnation: int
    versions: tuple[Version, ...]
    """Each of the incarnation that made it: updates made anew lead to another version."""


class ListVersions(Request[VersionList], frozen=True):
    """Stop applying and handing out, and say what there is to go on from."""


class Restored(Message, frozen=True):
    pass


class Restore(Request[Restored], frozen=True):
    """Go on from a version, under a new incarnation."""

    incarnation: int
    origin: Version
    """What to go back to."""
    size: int
    """Of the whole vector."""
    compensating: bool
    """Whether gradients will be compensated, for which the versions they come from have to be kept."""
    initial: NDArray[Any] | None
    """The slice to begin with, if that is the origin."""
