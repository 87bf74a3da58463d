"""Names of devices: `auto`, `cpu`, `cuda`, `cuda:1`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

if TYPE_CHECKING:
    import torch

Device = Annotated[str, Meta(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")]
"""A setting: a name that is some machine's device; `resolve_device` tells whether this one has it."""

_DEVICE = re.compile(r"auto|cpu|cuda(?::(?P<index>[0-9]+))?")


def resolve_device(name: str) -> torch.device:
    """The device a role computes on; `auto` is the first CUDA device where there is one, else the CPU.

    A CUDA device always carries its index, so that two names of one device compare equal.
    Raises ValueError for a name that is no device, and for one that this machine lacks.
    """
    import torch

    match = _DEVICE.fullmatch(name)
    if match is None:
        raise ValueError(f"there is no device {name!r}; use 'auto', 'cpu', 'cuda' or 'cuda:INDEX'")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(f"device {name!r}: torch sees no CUDA device here; use 'auto' or 'cpu'")
    index, count = int(match["index"] or 0), torch.cuda.device_count()
    if index >= count:
        last = "'cuda:0'" if count == 1 else f"'cuda:0' to 'cuda:{count - 1}'"
        raise ValueError(f"there is no device {name!r} here; this machine has {last}")
    return torch.device("cuda", index)
