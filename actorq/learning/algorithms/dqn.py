"""The loss of Q-values: from what the networks say of a batch to TD errors and the way down."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from actorq.learning.agent import Agent
from actorq.learning.staging import StagedBatch


class LossOutput(NamedTuple):
    """What B transitions say of the Q-values, of a loss that is a mean over more of them."""

    losses: Tensor
    """[] the sum of weight * loss(TD error), not yet divided."""
    td_errors: Tensor
    """[B] target - Q(s_t, a_t), not weighted."""
    output_gradient: Tensor
    """[B, actions] dL/dQ(s_t, .)"""
    targets: Tensor
    """[B] what Q(s_t, a_t) is learned towards."""


class QLoss:
    """Deep Q-learning's loss, in closed form: whoever runs the networks needs no derivative of it.

    Target: R + D * Q_target(s_{t+n}, a*), where a* is greedy in the target network (Mnih et al. 2015,
    equation 2) or, with `double`, in the online network (van Hasselt et al. 2016, arXiv 1509.06461, equation
    4). Loss: `huber` with threshold 1, whose slope is the TD error clipped to -1..1, or `squared`, half the
    square. The importance weight multiplies the loss, outside the clip (Schaul et al. 2016, algorithm 1).
    """

    def __init__(self, agent: Agent) -> None:
        self.double = agent.double
        """Whether `next_values` wants the online network's Q-values as well."""
        self._loss = _LOSSES[agent.loss]

    def next_values(self, target: Tensor, online: Tensor | None) -> Tensor:
        """[B] Q_target(s_{t+n}, a*), of both networks' Q-values of s_{t+n} [B, actions]."""
        if online is None:
            return target.amax(1)
        return target.gather(1, online.argmax(1, keepdim=True)).squeeze(1)

    def __call__(self, q_values: Tensor, next_values: Tensor, batch: StagedBatch, size: int) -> LossOutput:
        """Q(s_t, .) [B, actions], `next_values` [B]; the loss is the mean over `size` transitions."""
        targets = torch.addcmul(batch.returns, batch.discounts, next_values)
        td_errors = targets - q_values.gather(1, batch.actions).squeeze(1)
        losses, slopes = self._loss(td_errors)
        # The TD error falls as Q rises: hence the minus.
        at_actions = (slopes * batch.weights).div_(-size).unsqueeze(1)
        gradient = torch.zeros_like(q_values).scatter_(1, batch.actions, at_actions)
        return LossOutput(torch.dot(batch.weights, losses), td_errors, gradient, targets)


def huber(td_errors: Tensor) -> tuple[Tensor, Tensor]:
    """Huber's loss with threshold 1 and its slope: d*d/2 within |d| <= 1, |d| - 1/2 beyond."""
    slopes = td_errors.clamp(-1.0, 1.0)
    return slopes * torch.sub(td_errors, slopes, alpha=0.5), slopes


def squared(td_errors: Tensor) -> tuple[Tensor, Tensor]:
    """Half the square, d*d/2, which is Huber's loss without its threshold, and its slope."""
    return 0.5 * td_errors * td_errors, td_errors


_LOSSES = {"huber": huber, "squared": squared}
