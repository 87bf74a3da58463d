"""Numpy arrays on their way to a device: through reusable buffers of our own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actorq.dqn.layout import observation_scale


class Staging:
    """Copies arrays into one reusable buffer, as a tensor of a fixed dtype on a device.

    Arrays from messages are read-only, and torch must not wrap those. The buffer is page-locked for a CUDA
    device. The tensor given is good until the next call; on CUDA the caller waits for the device (by reading
    a result) before that call.
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
