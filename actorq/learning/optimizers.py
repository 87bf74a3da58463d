"""Optimizers that step one flat vector, and clipping of its gradient."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .agent import Agent

State = dict[str, Any]
"""Numbers and numpy arrays by name."""


class Optimizer(Protocol):
    """Steps a vector of parameters along a vector of gradients, both the caller's; either may be a shard."""

    learning_rate: float
    """The step size; may be changed between steps."""

    def step(self, gradient: Tensor | None = None) -> None:
        """Change the parameters in place, by their present gradient or by another, which is only read."""

    def state(self) -> State:
        """A copy of the optimizer's state, for a checkpoint."""

    def load_state(self, state: State) -> None:
        """Restore a `state`. ValueError, with nothing changed, if it is of another optimizer or size."""


def make_optimizer(agent: Agent, vector: Tensor, gradient: Tensor) -> Optimizer:
    """The agent's optimizer for a flat vector (or a slice of one) and its gradient."""
    if agent.optimizer == "adam":
        betas = agent.adam_betas or (0.9, 0.999)
        epsilon = 1e-8 if agent.optimizer_epsilon is None else agent.optimizer_epsilon
        return Adam(vector, gradient, agent.learning_rate, betas=betas, epsilon=epsilon)
    decay = 0.95 if agent.rmsprop_decay is None else agent.rmsprop_decay
    epsilon = 0.01 if agent.optimizer_epsilon is None else agent.optimizer_epsilon
    return RMSProp(vector, gradient, agent.learning_rate, decay=decay, epsilon=epsilon)


class Adam:
    """Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1; torch's fused kernel does the step."""

    def __init__(
        self,
        vector: Tensor,
        gradient: Tensor,
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.learning_rate = learning_rate
        self._vector, self._gradient = vector, gradient
        self._betas, self._epsilon = betas, epsilon
        self._mean = torch.zeros_like(vector)
        self._square = torch.zeros_like(vector)
        # Counted in float32 by the kernel: exact up to 16.7 million updates, where the bias correction is
        # long 1.
        self._updates = torch.zeros((), dtype=torch.float32, device=vector.device)

    @torch.no_grad()
    def step(self, gradient: Tensor | None = None) -> None:
        self._updates += 1
        # What torch.optim.Adam(fused=True) calls for each step, without its 30 microseconds of bookkeeping.
        torch._fused_adam_(
            [self._vector],
            [self._gradient if gradient is None else gradient],
            [self._mean],
            [self._square],
            [],
            [self._updates],
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=self._epsilon,
            maximize=False,
        )

    def state(self) -> State:
        return {
            "optimizer": "adam",
            "updates": int(self._updates),
            "mean": _copy_out(self._mean),
            "square": _copy_out(self._square),
        }

    def load_state(self, state: State) -> None:
        _check_state(state, "adam", self._vector.numel(), ("mean", "square"))
        self._updates.fill_(state["updates"])
        _copy_in(self._mean, state["mean"])
        _copy_in(self._square, state["square"])


class RMSProp:
    """The centered form: step = g / (sqrt(E[g^2] - E[g]^2) + epsilon), no momentum.

    This is torch's form and MinAtar's DQN (Young & Tian 2019: decay 0.95, epsilon 0.01). Mnih et al. 2015 add
    epsilon under the root instead. The variance is kept from falling below 0 by rounding.
    """

    def __init__(
        self,
        vector: Tensor,
        gradient: Tensor,
        learning_rate: float,
        *,
        decay: float = 0.95,
        epsilon: float = 0.01,
    ) -> None:
        self.learning_rate = learning_rate
        self._vector, self._gradient = vector, gradient
        self._decay, self._epsilon = decay, epsilon
        self._mean = torch.zeros_like(vector)
        self._square = torch.zeros_like(vector)

    @torch.no_grad()
    def step(self, gradient: Tensor | None = None) -> None:
        gradient, kept = self._gradient if gradient is None else gradient, self._decay
        self._mean.lerp_(gradient, 1.0 - kept)
        self._square.mul_(kept).addcmul_(gradient, gradient, value=1.0 - kept)
        variance = torch.addcmul(self._square, self._mean, self._mean, value=-1.0).clamp_(min=0.0)
        self._vector.addcdiv_(gradient, variance.sqrt_().add_(self._epsilon), value=-self.learning_rate)

    def state(self) -> State:
        return {"optimizer": "rmsprop", "mean": _copy_out(self._mean), "square": _copy_out(self._square)}

    def load_state(self, state: State) -> None:
        _check_state(state, "rmsprop", self._vector.numel(), ("mean", "square"))
        _copy_in(self._mean, state["mean"])
        _copy_in(self._square, state["square"])


def clip_gradient_norm(gradient: Tensor, maximum: float) -> float:
    """Scale the gradient in place to the Euclidean norm `maximum` if it is longer; returns the previous norm.

    A norm that is not finite is returned and the gradient left unchanged: the caller decides what to do.
    """
    norm = float(torch.linalg.vector_norm(gradient))
    if maximum < norm < float("inf"):
        gradient.mul_(maximum / norm)
    return norm


def _copy_out(tensor: Tensor) -> np.ndarray[Any, Any]:
    return np.array(tensor.numpy(force=True))


def _copy_in(tensor: Tensor, array: np.ndarray[Any, Any]) -> None:
    tensor.copy_(torch.from_numpy(np.array(array)))


def _check_state(state: State, optimizer: str, size: int, moments: tuple[str, ...]) -> None:
    if state.get("optimizer") != optimizer:
        raise ValueError(
            f"the state is that of {state.get('optimizer')!r}, and the optimizer is {optimizer!r}"
        )
    for name in moments:
        if state[name].shape != (size,):
            raise ValueError(f"the state's {name} is {state[name].shape}, and the parameters are [{size}]")
