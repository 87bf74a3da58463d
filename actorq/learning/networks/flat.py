"""A network's parameters as views into one contiguous vector, and its gradients as views into another."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class BrokenViews(RuntimeError):
    """Raised by `FlatParameters.check`: a parameter or gradient was replaced instead of written into."""


class FlatParameters:
    """Owns a module and makes its parameters views into `vector` and its gradients views into `gradient`.

    Publishing weights is then one copy, a shard a slice, and an optimizer steps one tensor. The order is that
    of `module.named_parameters()`. Dtype and device are fixed here, before flattening: `module.double()`,
    `module.to(...)` and `load_state_dict(assign=True)` would silently replace the views. Call `check` after
    foreign code has used the module.

    Raises ValueError for a module without parameters, and for one with buffers in its state (such as the
    running statistics of BatchNorm): they are not parameters, so they would neither be published nor learned.
    """

    module: nn.Module
    vector: Tensor
    """[size] all parameters."""
    gradient: Tensor
    """[size] all gradients, zero at first."""

    def __init__(
        self, module: nn.Module, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        self.module = module.to(device=device, dtype=dtype)
        named = dict(module.named_parameters())
        _refuse_state_outside(named, module)
        self.vector = torch.cat([parameter.detach().reshape(-1) for parameter in named.values()])
        self.gradient = torch.zeros_like(self.vector)
        self._spans: dict[str, tuple[int, torch.Size]] = {}
        start = 0
        for name, parameter in named.items():
            shape, end = parameter.shape, start + parameter.numel()
            parameter.data = self.vector[start:end].view(shape)
            parameter.grad = self.gradient[start:end].view(shape)
            self._spans[name] = (start, shape)
            start = end

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.vector.numel()

    @property
    def device(self) -> torch.device:
        return self.vector.device

    @property
    def dtype(self) -> torch.dtype:
        return self.vector.dtype

    def read(self) -> NDArray[Any]:
        """A copy of all parameters, [size] in the parameters' dtype, on the CPU."""
        return np.array(self.vector.numpy(force=True))

    def write(self, vector: NDArray[Any]) -> None:
        """Set all parameters from a vector [size] of any floating dtype; ValueError for another size."""
        if vector.shape != (self.size,):
            raise ValueError(
                f"the vector must be [{self.size}], one number per parameter, not {vector.shape}"
            )
        # The copy in between is for arrays that came in a message: read-only, and torch warns of wrapping
        # those.
        self.vector.copy_(torch.from_numpy(np.array(vector)))

    def check(self) -> None:
        """Verify that parameters and gradients are still views; raises BrokenViews naming one that is not."""
        named = dict(self.module.named_parameters())
        if named.keys() != self._spans.keys():
            changed = ", ".join(sorted(named.keys() ^ self._spans.keys()))
            raise BrokenViews(f"the module's parameters changed after it was flattened: {changed}")
        for name, (start, shape) in self._spans.items():
            for what, tensor, base in (
                ("parameter", named[name].detach(), self.vector),
                ("gradient", named[name].grad, self.gradient),
            ):
                if tensor is None or not _is_view(tensor, base, start, shape):
                    raise BrokenViews(
                        f"{what} {name!r} is no longer a view into the flat vector: write into it in place,"
                        " and choose dtype and device before flattening"
                    )


def _refuse_state_outside(named: dict[str, nn.Parameter], module: nn.Module) -> None:
    """Raise ValueError unless parameters are the whole state of the module."""
    if not named:
        raise ValueError(f"{type(module).__name__} has no parameters: there is nothing to learn")
    aliases = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    buffers = sorted(module.state_dict().keys() - aliases)
    if buffers:
        raise ValueError(
            f"{type(module).__name__} keeps state in buffers ({', '.join(buffers)}), which are neither"
            " learned nor sent with the parameters; use layers without running statistics, such as LayerNorm,"
            " and register constants with persistent=False"
        )


def _is_view(tensor: Tensor, base: Tensor, start: int, shape: torch.Size) -> bool:
    return (
        tensor.shape == shape
        and tensor.is_contiguous()
        and tensor.data_ptr() == base.data_ptr() + start * base.element_size()
    )
