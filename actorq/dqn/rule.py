"""The learning rule: from parameters and a batch to a gradient, a loss and TD errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actorq.dqn.agent import Agent
from actorq.dqn.flat import FlatParameters
from actorq.dqn.passes import MLPPass, make_pass
from actorq.dqn.staging import BatchStaging, StagedBatch, TransitionBatch


class Learned(NamedTuple):
    """What one call of the rule found, on the CPU."""

    loss: float
    """Mean over the batch of weight * loss(TD error)."""
    td_errors: NDArray[np.float32]
    """[B] target - Q(s_t, a_t), not weighted; their absolute values are the new priorities."""


class LearningRule:
    """Deep Q-learning, used alike by a lone learner, a gradient worker and a model-parallel stage.

    Target: R + D * Q_target(s_{t+n}, a*), where a* is greedy in the target network (Mnih et al. 2015,
    equation 2) or, with `double`, in the online network (van Hasselt et al. 2016, arXiv 1509.06461, equation
    4). Loss: `huber` with threshold 1, whose slope is the TD error clipped to -1..1, or `squared`, half the
    square. The importance weight multiplies the loss, outside the clip (Schaul et al. 2016, algorithm 1), and
    the loss is the mean over the batch.

    The rule changes no parameters: it overwrites `online.gradient` and leaves the step to an optimizer. It
    finds dL/dQ in closed form and sends that back through the network, so only the network itself needs
    derivatives.
    """

    def __init__(self, agent: Agent, online: FlatParameters, target: FlatParameters) -> None:
        self._double = agent.double
        self._loss = _LOSSES[agent.loss]
        self._online = make_pass(online)
        self._target = make_pass(target)
        # The faster of the two; but autograd refuses to keep what was made in it.
        self._without_graph = torch.inference_mode if isinstance(self._online, MLPPass) else torch.no_grad
        self._stage = BatchStaging(online.dtype, online.device)

    def __call__(self, batch: TransitionBatch | StagedBatch) -> Learned:
        """Write the gradient of the batch's loss into `online.gradient`.

        Returns once the device is done. Raises TypeError, ValueError or RuntimeError for arrays that are no
        transitions of this network (such as an action it does not have).
        """
        with self._without_graph():
            staged = batch if isinstance(batch, StagedBatch) else self._stage(batch)
            staged.wait()
            return self._learn(staged, len(staged.actions))

    def _learn(self, batch: StagedBatch, size: int) -> Learned:
        q_values, next_values = self._values(batch.observations, size)
        targets = torch.addcmul(batch.returns, batch.discounts, next_values)
        td_errors = targets - q_values.gather(1, batch.actions).squeeze(1)
        losses, slopes = self._loss(td_errors)
        # The TD error falls as Q rises: hence the minus.
        slopes_at_actions = (slopes * batch.weights).div_(-size).unsqueeze(1)
        self._online.backward(torch.zeros_like(q_values).scatter_(1, batch.actions, slopes_at_actions))
        loss = float(torch.dot(batch.weights, losses)) / size
        return Learned(loss, td_errors.to(torch.float32).numpy(force=True))

    def _values(self, observations: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Q(s_t, .) [B, actions], waiting for its backward pass, and Q_target(s_{t+n}, a*) [B]."""
        next_q_values = self._target.evaluate(observations[size:])
        if not self._double:
            return self._online.forward(observations[:size], size), next_q_values.amax(1)
        # The online network sees s_t and s_{t+n} together: one larger product costs less than two.
        q_values = self._online.forward(observations, size)
        greedy = q_values[size:].argmax(1, keepdim=True)
        return q_values[:size], next_q_values.gather(1, greedy).squeeze(1)


def huber(td_errors: Tensor) -> tuple[Tensor, Tensor]:
    """Huber's loss with threshold 1 and its slope: d*d/2 within |d| <= 1, |d| - 1/2 beyond."""
    slopes = td_errors.clamp(-1.0, 1.0)
    return slopes * torch.sub(td_errors, slopes, alpha=0.5), slopes


def squared(td_errors: Tensor) -> tuple[Tensor, Tensor]:
    """Half the square, d*d/2, which is Huber's loss without its threshold, and its slope."""
    return 0.5 * td_errors * td_errors, td_errors


_LOSSES = {"huber": huber, "squared": squared}
