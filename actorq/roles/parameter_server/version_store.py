"""Version store of a shard: the versions kept for readers, whole or as compressed differences."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from actorq.learning.distributed.encoded import Encoded
from actorq.roles.replay.messages import Version

from .messages import Fetch, Fetched

if TYPE_CHECKING:
    from actorq.learning.distributed.deltas import DeltaChain
    from actorq.learning.distributed.parameter_shard import Kept

Form = Literal["whole", "delta_float16", "delta_int8"]


class VersionStore:
    """The last `limit` versions of one incarnation, by their number of updates.

    With deltas all readers follow one chain of compressed differences, whose errors do not accumulate: every
    reader of a version holds the same values, as near to the parameters as the codec of the last difference.
    """

    def __init__(self, incarnation: int, form: Form, limit: int, compensating: bool) -> None:
        """`compensating`: also keep the version sent to each worker until its gradient arrives (DC-ASGD)."""
        self._incarnation = incarnation
        self._form, self._limit, self._compensating = form, limit, compensating
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._chain: DeltaChain | None = None
        self._links: dict[int, int] = {}
        """Number of updates to the link of the chain that leads to that version."""
        self._handed: dict[int, dict[int, NDArray[Any]]] = {}

    def add(self, updates: int, kept: Kept) -> None:
        """Keep a version and drop the oldest one."""
        if updates in self._kept:
            return
        if self._form != "whole":
            kept = kept._replace(parameters=self._follow(updates, kept.parameters))
        self._kept[updates] = kept
        while len(self._kept) > self._limit:
            gone, _ = self._kept.popitem(last=False)
            self._links.pop(gone, None)

    def _follow(self, updates: int, parameters: NDArray[Any]) -> NDArray[Any]:
        """The values that readers of this version have: the chain's reconstruction."""
        import torch

        from actorq.learning.distributed.deltas import DeltaChain

        vector = torch.from_numpy(parameters)
        if self._chain is None:
            codec: Literal["float16", "int8"] = "float16" if self._form == "delta_float16" else "int8"
            self._chain = DeltaChain(vector, codec, self._limit)
        else:
            self._chain.advance(vector)
        self._links[updates] = self._chain.number
        return np.array(self._chain.latest.numpy())

    def has(self, updates: int) -> bool:
        return updates in self._kept

    def is_gone(self, updates: int) -> bool:
        """Whether the version was kept earlier, or skipped."""
        return bool(self._kept) and updates not in self._kept and updates < next(reversed(self._kept))

    def fetched(self, request: Fetch) -> Fetched:
        """A kept version in the form that the reader needs: nothing, deltas or whole."""
        updates, have = request.version.updates, request.have
        kept = self._kept[updates]
        if self._compensating and request.worker >= 0:
            self._handed.setdefault(request.worker, {})[updates] = kept.parameters
        same_incarnation = have is not None and have.incarnation == self._incarnation
        has_target = same_incarnation and request.have_target == kept.target_updates
        target = None if has_target else kept.target
        if same_incarnation and have == Version(self._incarnation, updates):
            return Fetched(None, (), target)
        deltas = self._deltas(have, updates) if same_incarnation else None
        if deltas is not None:
            return Fetched(None, tuple(deltas), target)
        return Fetched(kept.parameters, (), target)

    def _deltas(self, have: Version | None, updates: int) -> list[Encoded] | None:
        """The deltas from the reader's version to this one; None if it must be sent whole."""
        if self._chain is None or have is None or have.updates not in self._links:
            return None
        return self._chain.since(self._links[have.updates], self._links[updates])

    def handed(self, worker: int, updates: int) -> NDArray[Any] | None:
        """The parameters that a worker's gradient was computed with; drops the worker's earlier ones."""
        versions = self._handed.get(worker, {})
        for earlier in [version for version in versions if version < updates]:
            del versions[earlier]
        return versions.get(updates)

    def forget(self, worker: int) -> None:
        self._handed.pop(worker, None)
