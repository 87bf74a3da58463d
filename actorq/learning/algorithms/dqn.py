"""Deep Q-learning, with double Q-learning: settings, Q-values, target and loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from .algorithm import Algorithm, AlgorithmConfig, ArrayOrTensor, LossOutput, Need, Outputs

if TYPE_CHECKING:
    from torch import Tensor

    from actorq.learning.staging import StagedBatch


class DQN(Algorithm):
    """Deep Q-learning with its gradient in closed form.

    Target: R + D * Q_target(s_{t+n}, a*), where a* is greedy in the target network (Mnih et al. 2015,
    equation 2) or, with `double`, in the online network (van Hasselt et al. 2016, arXiv 1509.06461, equation
    4). Loss: `huber` with threshold 1, whose slope is the TD error clipped to -1..1, or `squared`, half the
    square.
    """

    class Config(AlgorithmConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
        double: Annotated[
            bool, Meta(description="Double Q-learning: the online network chooses the target's action.")
        ] = True
        loss: Annotated[
            Literal["huber", "squared"],
            Meta(
                description="Of the TD error d: squared is d*d/2; huber the same up to |d| = 1,"
                " then |d| - 1/2."
            ),
        ] = "huber"

    config: Config
    uses_autograd = False

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"online_next", "target_next"} if self.config.double else {"target_next"})

    def q_values(self, outputs: ArrayOrTensor) -> ArrayOrTensor:
        return outputs.squeeze(-1)

    def loss(self, outputs: Outputs, batch: StagedBatch) -> LossOutput:
        import torch

        q_values = self.q_values(outputs.now)
        targets = batch.returns.addcmul(batch.discounts, self._next_values(outputs))
        errors = q_values.gather(1, batch.actions).squeeze(1) - targets  # the TD errors with the other sign
        losses, derivatives = _LOSSES[self.config.loss](errors)
        gradient = torch.zeros_like(q_values).scatter_(1, batch.actions, derivatives.unsqueeze(1))
        return LossOutput(losses, errors.abs(), gradient.unsqueeze(-1), targets)

    def _next_values(self, outputs: Outputs) -> Tensor:
        """Q_target(s_{t+n}, a*), [B]."""
        assert outputs.target_next is not None
        target = self.q_values(outputs.target_next)
        if outputs.online_next is None:
            return target.amax(1)
        return target.gather(1, self.q_values(outputs.online_next).argmax(1, keepdim=True)).squeeze(1)


def huber(td_errors: Tensor) -> tuple[Tensor, Tensor]:
    """Huber's loss with threshold 1 and its derivative: d*d/2 within |d| <= 1, |d| - 1/2 beyond."""
    derivatives = td_errors.clamp(-1.0, 1.0)
    return derivatives * td_errors.sub(derivatives, alpha=0.5), derivatives


def squared(td_errors: Tensor) -> tuple[Tensor, Tensor]:
    """Half the square, d*d/2, which is Huber's loss without its threshold, and its derivative."""
    return 0.5 * td_errors * td_errors, td_errors


_LOSSES = {"huber": huber, "squared": squared}
