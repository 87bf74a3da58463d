"""Torch policy, for networks that numpy does not evaluate. Made by `make_policy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import DTypeLike, NDArray

from actorq.learning.agent import Agent
from actorq.learning.device import resolve_device
from actorq.learning.staging import ObservationStaging

from .backends import make_backend
from .factory import make_parameters


class TorchPolicy:
    """A `Policy` for every network, on any device."""

    def __init__(
        self,
        agent: Agent,
        observation_shape: Sequence[int],
        observation_dtype: DTypeLike,
        actions: int,
        device: str = "auto",
    ) -> None:
        self._observation_shape = tuple(observation_shape)
        self._parameters = make_parameters(
            agent, observation_shape, observation_dtype, actions, seed=0, device=resolve_device(device)
        )
        self._algorithm = agent.make_algorithm()
        self._outputs = (-1, actions, self._algorithm.outputs_per_action)
        self._parameters.vector.zero_()
        self._parameters.module.eval()  # no dropout in the greedy policy
        self._pass = make_backend(self._parameters)
        self._stage = ObservationStaging(self._parameters.dtype, self._parameters.device)

    @property
    def size(self) -> int:
        return self._parameters.size

    def load(self, vector: NDArray[Any]) -> None:
        self._parameters.write(vector)

    def q_values(self, observations: NDArray[Any]) -> NDArray[Any]:
        if observations.shape[1:] != self._observation_shape:
            raise ValueError(
                f"observations must be [B, *{self._observation_shape}], not {observations.shape}"
            )
        with torch.inference_mode():
            (outputs,) = self._pass.evaluate((self._stage(observations),))
            return self._algorithm.q_values(outputs.view(self._outputs)).numpy(force=True)
