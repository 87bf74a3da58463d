"""Device names: `auto`, `cpu`, `cuda`, `cuda:1`."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

if TYPE_CHECKING:
    import torch

log = logging.getLogger("actorq.learning")

Device = Annotated[str, Meta(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")]
"""A setting: the name of a possible device; `resolve_device` checks whether this machine has it."""

_DEVICE = re.compile(r"auto|cpu|cuda(?::(?P<index>[0-9]+))?")

_users: dict[str, int] = {}
"""Users of `auto` in this process, each with its number."""


def resolve_device(name: str, user: str | None = None) -> torch.device:
    """The device a role computes on.

    `auto` is a CUDA device if there is one, else the CPU. A process assigns its CUDA devices round robin to
    the users that ask, each an actor's name; a user that asks again, as each incarnation of an actor does,
    gets the same one. Without a user it is the first. Without CUDA this is logged, once for all users.

    A CUDA device always has its index, so that two names of one device compare equal. Raises ValueError for a
    name that is no device, and for one that this machine lacks.
    """
    import torch

    match = _DEVICE.fullmatch(name)
    if match is None:
        raise ValueError(f"there is no device {name!r}; use 'auto', 'cpu', 'cuda' or 'cuda:INDEX'")
    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return _dealt(user, count)
    if count == 0:
        raise ValueError(f"device {name!r}: torch sees no CUDA device here; use 'auto' or 'cpu'")
    index = int(match["index"] or 0)
    if index >= count:
        last = "'cuda:0'" if count == 1 else f"'cuda:0' to 'cuda:{count - 1}'"
        raise ValueError(f"there is no device {name!r} here; this machine has {last}")
    return torch.device("cuda", index)


def _dealt(user: str | None, count: int) -> torch.device:
    """The device that `auto` assigns to this user, with this number of CUDA devices."""
    import torch

    if user is not None and user not in _users:
        _users[user] = len(_users)
        if count == 0 and len(_users) == 1:
            log.info("torch sees no CUDA device here: what has device = 'auto' computes on the CPU")
    return torch.device("cuda", _users.get(user or "", 0) % count) if count else torch.device("cpu")
