"""Staging: copies numpy arrays to a device through reusable buffers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .networks.observations import observation_scale


class TransitionBatch(Protocol):
    """B transitions s_t, a_t, R, D, s_{t+n}. Arrays may be read-only; they are copied."""

    @property
    def observations(self) -> NDArray[Any]:
        """[B, *observation_shape] s_t, in the environment's own dtype."""

    @property
    def actions(self) -> NDArray[np.int64]:
        """[B] a_t."""

    @property
    def returns(self) -> NDArray[np.float32]:
        """[B] n-step return R."""

    @property
    def discounts(self) -> NDArray[np.float32]:
        """[B] product of discounts D; 0 where the window ended in termination."""

    @property
    def next_observations(self) -> NDArray[Any]:
        """[B, *observation_shape] s_{t+n}."""

    @property
    def weights(self) -> NDArray[np.float32]:
        """[B] importance weights; all 1 for uniform replay."""


class Staging:
    """Copies arrays into one reusable buffer, as a tensor of a fixed dtype on a device.

    Arrays from messages are read-only, and torch must not wrap those. The buffer is page-locked for a CUDA
    device. The returned tensor is valid until the next call; on CUDA the caller waits for the device (by
    reading a result) before that call.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device
        self._host = torch.empty(0, dtype=dtype)
        self._view: NDArray[Any] = self._host.numpy()

    def __call__(self, *arrays: NDArray[Any]) -> Tensor:
        """The arrays one after another along their first axis; TypeError where the dtype cannot hold them."""
        shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
        if shape != self._view.shape:
            self._host = torch.empty(shape, dtype=self._dtype, pin_memory=self._device.type == "cuda")
            self._view = self._host.numpy()
        start = 0
        for array in arrays:
            np.copyto(self._view[start : start + len(array)], array, casting="same_kind")
            start += len(array)
        return self._host if self._device.type == "cpu" else self._host.to(self._device, non_blocking=True)


class ObservationStaging:
    """The same for observations [B, *observation_shape], scaled, in the parameters' dtype.

    Bytes cross to the device as bytes, a quarter of the traffic, and are scaled there.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._bytes = Staging(torch.uint8, device)
        self._numbers = Staging(dtype, device)

    def __call__(self, *observations: NDArray[Any]) -> Tensor:
        if observations[0].dtype != np.uint8:
            return self._numbers(*observations)
        return self._bytes(*observations).to(self._dtype).mul_(observation_scale(np.uint8))


class StagedBatch(NamedTuple):
    """B transitions on the device, valid until their buffers are used again."""

    observations: Tensor
    """[2 B, *observation_shape] s_t, then s_{t+n}; scaled, in the parameters' dtype."""
    actions: Tensor
    """[B, 1]"""
    returns: Tensor
    """[B]"""
    discounts: Tensor
    """[B]"""
    weights: Tensor
    """[B]"""
    ready: torch.cuda.Event | None
    """Event to wait for before computing with it; None if it is on the device already."""

    def wait(self) -> None:
        """Have the current stream wait until it is on the device."""
        if self.ready is not None:
            torch.cuda.current_stream(self.actions.device).wait_event(self.ready)


class BatchStaging:
    """Buffers for one batch at a time."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._observations = ObservationStaging(dtype, device)
        self._actions = Staging(torch.int64, device)
        self._returns = Staging(dtype, device)
        self._discounts = Staging(dtype, device)
        self._weights = Staging(dtype, device)

    def __call__(self, batch: TransitionBatch, ready: torch.cuda.Event | None = None) -> StagedBatch:
        """Raises TypeError or ValueError for arrays that are not a valid batch."""
        return StagedBatch(
            self._observations(batch.observations, batch.next_observations),
            self._actions(batch.actions).unsqueeze(1),
            self._returns(batch.returns),
            self._discounts(batch.discounts),
            self._weights(batch.weights),
            ready,
        )


class AheadStaging:
    """Copies batches to a CUDA device while it computes: page-locked buffers, a stream of its own.

    For use by a thread beside the computing one, which reads its results before it releases a batch. At most
    `batches` may be staged, and not yet learned from, at a time: their buffers are used in turn.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, batches: int) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers: Iterator[BatchStaging] = cycle([BatchStaging(dtype, device) for _ in range(batches)])

    def __call__(self, batches: Sequence[TransitionBatch]) -> list[StagedBatch]:
        """Returns as soon as the copies are in progress."""
        return [self._stage(batch) for batch in batches]

    def _stage(self, batch: TransitionBatch) -> StagedBatch:
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            staged = next(self._buffers)(batch, ready)
            ready.record(self._stream)
        return staged
