"""Protocol between workers, a parameter server's shards and its coordinator."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from numpy.typing import NDArray

from actorq.actors import Message, Request
from actorq.learning.distributed.encoded import Encoded
from actorq.roles.replay.messages import Version


class Ticket(msgspec.Struct, frozen=True, order=True):
    """Identifies one gradient, whose slices go to different shards."""

    worker: int
    incarnation: int
    """The worker's restarts."""
    number: int
    """Counts the worker's gradients in this incarnation, from 1."""


# Between a worker and the coordinator.


class Pulled(Message, frozen=True):
    """The version to fetch, which all shards keep."""

    version: Version
    target_updates: int
    """The update after which the target network was last refreshed."""
    rows: int | None = None
    """Batch size of the reader's next gradient; None: that of its own settings."""


class Pull(Request[Pulled], frozen=True):
    """Make the shards keep the newest version, to be fetched from each of them."""

    worker: int
    computing: bool
    """Whether a gradient computed with it will follow, for which the update rule may wait."""
    incarnation: int = 0
    """The worker's restarts."""


class Pushed(Message, frozen=True):
    """A gradient's delivery state, and the version to continue with."""

    delivery_state: Literal["accepted", "scaled", "late", "stale"]
    pulled: Pulled | None
    """None for a worker that continues with the version it has."""


class Push(Request[Pushed], frozen=True):
    """Apply a gradient whose slices were sent to the shards. The update rule decides when it is answered.

    Refused for a version of an earlier incarnation of the server, or from the future, and if a shard refuses
    a slice: NaN or infinite numbers, a wrong length, an unknown codec.
    """

    ticket: Ticket
    version: Version
    """Version of the parameters it was computed with."""
    bytes: int
    """Size of the gradient as sent."""
    bytes_fetched: int
    """Bytes of weights that the worker has fetched since its last push."""
    reads: bool = True
    """Whether the worker wants the resulting version; rules that wait for workers send it in any case."""
    rows: int = 1
    """Transitions that the gradient is the mean over, at least 1."""


# Between a worker and a shard.


class Gradient(Message, frozen=True):
    """A shard's slice of a gradient."""

    ticket: Ticket
    version: Version
    slice: Encoded


class Fetched(Message, frozen=True):
    """A shard's slice of the parameters, whole or as differences to the version that the reader has."""

    whole: NDArray[Any] | None
    deltas: tuple[Encoded, ...]
    """To be added in this order; with `whole` None and no deltas, the reader has the version already."""
    target: NDArray[Any] | None
    """None if the reader has it already."""


class Fetch(Request[Fetched], frozen=True):
    """Read a slice of a version that the coordinator named. Refused if the shard no longer keeps it."""

    worker: int
    """The worker's index; negative for readers that push no gradients."""
    version: Version
    have: Version | None
    """The version of the parameters that the reader holds, if any."""
    have_target: int | None
    """The update, in the same incarnation, after which the reader's target was refreshed."""


# Between the coordinator and a shard.


class SliceNorm(Message, frozen=True):
    square_norm: float
    """Squared Euclidean norm of the slice; finite."""


class GetSliceNorm(Request[SliceNorm], frozen=True):
    """Validate a slice and get its squared norm; waits for the slice. Refused if it is unusable."""

    ticket: Ticket


class Combine(Request[SliceNorm], frozen=True):
    """Sum gradients, each times its factor, as the next to be applied, and get the sum's squared norm."""

    incarnation: int
    tickets: tuple[Ticket, ...]
    factors: tuple[float, ...]
    compensation: float
    """DC-ASGD's lambda; 0 leaves each gradient as it is."""


class Apply(Message, frozen=True):
    """Make one update, with the combined gradient or the one named by `ticket`."""

    incarnation: int
    updates: int
    """The version that this update leads to."""
    ticket: Ticket | None
    """None: the combined gradient."""
    factor: float
    """Factor of the gradient."""
    step: float
    """Factor of the step size."""


class Keep(Message, frozen=True):
    """Copy the current slice for readers that will fetch this version."""

    incarnation: int
    updates: int


class Discard(Message, frozen=True):
    """Drop gradients that will not be applied."""

    tickets: tuple[Ticket, ...]


class Forget(Message, frozen=True):
    """A worker has died: drop all gradients of this incarnation and earlier ones, also those that arrive
    later.
    """

    worker: int
    incarnation: int


class VersionList(Message, frozen=True):
    """The versions that a shard can be restored to, newest last."""

    incarnation: int
    versions: tuple[Version, ...]
    """Each with the incarnation that made it: repeated updates lead to another version."""


class ListVersions(Request[VersionList], frozen=True):
    """Stop applying and serving, and list the versions that can be restored."""


class Restore(Request[None], frozen=True):
    """Continue from a version, under a new incarnation."""

    incarnation: int
    origin: Version
    """The version to restore."""
    size: int
    """Length of the whole vector."""
    compensating: bool
    """Whether gradients will be compensated, which requires the versions they were computed from."""
    initial: NDArray[Any] | None
    """The initial slice, if `origin` is the beginning."""
