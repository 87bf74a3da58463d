"""Target network: an earlier copy of the online one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from .agent import Agent
from .networks.flat import FlatParameters


class TargetNetwork:
    """A second network with earlier, or averaged, parameters of the online one.

    Either copied every `target_every_updates` updates (Mnih et al. 2015, algorithm 1) or, with `polyak`,
    moved by target += polyak * (online - target) after every one (Lillicrap et al. 2016, arXiv 1509.02971,
    algorithm 1). One pass over one vector in both cases. It starts equal to the online network.
    """

    parameters: FlatParameters

    def __init__(self, agent: Agent, online: FlatParameters) -> None:
        module = copy.deepcopy(online.module).requires_grad_(False).eval()
        self.parameters = FlatParameters(module, online.dtype, online.device)
        self._online = online
        self._agent = agent

    @torch.no_grad()
    def follow(self, updates: int) -> bool:
        """Call after each update, with the number of updates; returns whether the target changed."""
        if self._agent.polyak is not None:
            self.parameters.vector.lerp_(self._online.vector, self._agent.polyak)
            return True
        if self._agent.target_updates(updates) != updates:
            return False
        self.copy()
        return True

    @torch.no_grad()
    def copy(self) -> None:
        """Copy the present online parameters, whatever the schedule."""
        self.parameters.vector.copy_(self._online.vector)

    def state(self) -> dict[str, Any]:
        """The target parameters; the caller keeps the number of updates."""
        return {"vector": self.parameters.read()}

    def load_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Restore a `state`. Raises ValueError, with nothing changed, if it is of another size."""
        self.parameters.write(state["vector"])
