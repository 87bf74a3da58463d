"""Weights reader of a parameter server: all slices of one version or none, for learners and for
publishing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, ActorDied, Group, Refused, Stopping, Topic
from actorq.learning.distributed.encoded import Encoded, check, require
from actorq.learning.distributed.sharding import shard_slices
from actorq.roles.replay.messages import Version, Weights

from .messages import Fetch, Fetched, Pulled
from .pending import NOBODY

if TYPE_CHECKING:
    from torch import Tensor


class WeightsReader:
    """Keeps a vector, and optionally the target's, at a version of the server's.

    All slices are fetched by the number of one version, and none is written before all have arrived: the
    vectors never mix two versions. A shard sends only what the reader does not have yet. One fetch at a time.
    """

    version: Version | None = None
    """The version in `parameters`; None before the first fetch, while their contents are undefined."""
    target_updates: int | None = None
    """The update after which the target was refreshed."""

    def __init__(
        self, servers: Group[Fetch], worker: int, parameters: Tensor, target: Tensor | None = None
    ) -> None:
        """`worker`: its index; negative for readers that push no gradients."""
        self.parameters = parameters
        self._target = target
        self._servers = servers
        self._worker = worker
        self._slices = shard_slices(parameters.numel(), len(servers))
        self._bytes = 0

    async def fetch(self, pulled: Pulled) -> bool:
        """Read a version that the shards keep; returns whether it was new.

        Raises Refused or ActorDied as `ask` does, and ValueError for slices that don't fit; the vectors are
        unchanged then, and after a cancellation.
        """
        version = pulled.version
        if version == self.version and pulled.target_updates == self.target_updates:
            return False
        have = self.version
        have_target = pulled.target_updates if self._target is None else self.target_updates
        if have is not None and have.incarnation != version.incarnation:
            have = have_target = None
        fetched = await self._servers.all().ask(Fetch(self._worker, version, have, have_target))
        self._check(fetched, fresh=have is None)
        for part, slice in zip(self._slices, fetched, strict=True):
            _write(self.parameters[part], slice.whole, slice.deltas)
            if self._target is not None:
                _write(self._target[part], slice.target, ())
        self.version, self.target_updates = version, pulled.target_updates
        self._bytes += sum(map(_bytes_of, fetched))
        return True

    def read(self) -> NDArray[Any]:
        """A copy of the parameters, on the CPU."""
        return np.array(self.parameters.numpy(force=True))

    def take_bytes(self) -> int:
        """Bytes fetched since the last call."""
        taken, self._bytes = self._bytes, 0
        return taken

    def _check(self, fetched: Sequence[Fetched], *, fresh: bool) -> None:
        """Raise ValueError unless all slices can be written."""
        from actorq.learning.distributed.codecs import numpy_dtype

        dtype = numpy_dtype(self.parameters.dtype)
        for part, slice in zip(self._slices, fetched, strict=True):
            size = part.stop - part.start
            for array, what in ((slice.whole, "weights"), (slice.target, "target")):
                if array is not None:
                    require(array, what, dtype, size)
            for link in slice.deltas:
                check(link, size, dtype)
            if fresh and slice.whole is None:
                raise ValueError("a shard sent differences to a reader that has nothing of this incarnation")


class WeightPublisher:
    """Reads the newest version from the shards when it is due, and publishes it to `weights`."""

    def __init__(
        self,
        actor: Actor,
        servers: Group[Fetch],
        weights: Topic[Weights],
        pull: Callable[[], Awaitable[Pulled]],
    ) -> None:
        """`pull` makes the shards keep the newest version; it raises Refused when the run stops."""
        self._actor, self._servers, self._weights, self._pull = actor, servers, weights, pull
        self._due = actor.event()

    def note_due(self) -> None:
        self._due.set()

    async def run(self, initial: NDArray[Any]) -> None:
        """Publish the first version at once, later ones when they are due. `initial` has the vector's size
        and dtype.
        """
        import torch

        reader = WeightsReader(self._servers, NOBODY, torch.from_numpy(initial))
        while True:
            self._due = self._actor.event()
            try:
                pulled = await self._pull()
                fresh = await reader.fetch(pulled)
            except Stopping:
                return
            except (ActorDied, Refused):  # restored, or the version is no longer kept: read again
                continue
            if fresh:
                await self._weights.publish(Weights(pulled.version, reader.read()))
            await self._due.wait()


def _write(out: Tensor, whole: NDArray[Any] | None, deltas: Sequence[Encoded]) -> None:
    from actorq.learning.distributed.codecs import read_only_tensor
    from actorq.learning.distributed.deltas import follow

    if whole is not None:
        out.copy_(read_only_tensor(whole))
    elif deltas:
        follow(out, deltas)


def _bytes_of(fetched: Fetched) -> int:
    arrays = (fetched.whole, fetched.target)
    return sum(array.nbytes for array in arrays if array is not None) + sum(
        link.nbytes for link in fetched.deltas
    )
