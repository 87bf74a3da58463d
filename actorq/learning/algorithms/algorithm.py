"""Interface of a member of the Q family: how its outputs become Q-values, and what their loss is. Free of
torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from actorq.learning.staging import StagedBatch

Need = Literal["online_next", "target_next", "target_now"]
"""An evaluation that a loss takes besides the online network's of s_t."""

NEEDS: frozenset[str] = frozenset(get_args(Need))

ArrayOrTensor = TypeVar("ArrayOrTensor", "NDArray[Any]", "Tensor")


class AlgorithmConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of an algorithm's settings, the table `[agent.NAME]`; every field has a default."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, sentence) for each setting that another one contradicts."""
        return iter(())


class Outputs(NamedTuple):
    """Outputs of the networks for B transitions, each [B, actions, outputs_per_action]; None if not needed.

    Before they reach an algorithm the two last axes are one.
    """

    now: Tensor
    """Online network, s_t."""
    online_next: Tensor | None
    """Online network, s_{t+n}."""
    target_next: Tensor | None
    """Target network, s_{t+n}."""
    target_now: Tensor | None
    """Target network, s_t."""


class LossOutput(NamedTuple):
    """The loss of B transitions, each by itself, without importance weights."""

    losses: Tensor
    """[B]"""
    priorities: Tensor
    """[B] at least 0; for prioritized replay."""
    output_gradient: Tensor | None
    """[B, actions, outputs_per_action] of each loss with respect to its row of `Outputs.now`. None: autograd
    finds it, from `losses` to `Outputs.now` alone (`Algorithm.uses_autograd`)."""
    targets: Tensor
    """[B] or [B, n] the returns that outputs are learned towards; PopArt takes their mean and scale."""


class BatchLoss(NamedTuple):
    """The weighted loss of B transitions, which may be a part of a larger batch."""

    loss: Tensor
    """[] the sum of weight * loss."""
    priorities: Tensor
    """[B]"""
    output_gradient: Tensor
    """[B, outputs] of the mean over the whole batch, with respect to the online network's outputs of s_t."""
    targets: Tensor
    """See LossOutput."""


class Algorithm(ABC):
    """A member of the Q family, made for one `[agent]`.

    A subclass is one file; the entry-point group `actorq.algorithms` names it. `[agent] algorithm` chooses
    it and `[agent.NAME]` is its Config. The module is imported before anything starts, and where no torch is
    needed: import torch inside the methods that compute with it, or use the methods of tensors.
    """

    Config: ClassVar[type[AlgorithmConfig]] = AlgorithmConfig
    uses_autograd: ClassVar[bool] = True
    """Whether `loss` leaves the gradient to autograd."""
    outputs_are_returns: ClassVar[bool] = True
    """Whether each output is a value in units of return. If so, PopArt can normalize the targets
    (`reward_scale = "adaptive"`); if not, that is refused."""

    def __init__(self, config: Any) -> None:
        """`config`: a Config."""
        self.config = config

    @property
    def outputs_per_action(self) -> int:
        """The network's last layer has this many outputs for each action."""
        return 1

    @property
    def needs(self) -> frozenset[Need]:
        """The evaluations that `loss` takes; the others are not made, nor sent through a pipeline."""
        return frozenset({"target_next"})

    @abstractmethod
    def q_values(self, outputs: ArrayOrTensor) -> ArrayOrTensor:
        """Q-values [B, actions] for acting, of outputs [B, actions, outputs_per_action]: a numpy array or a
        tensor, whichever it is given."""

    @abstractmethod
    def loss(self, outputs: Outputs, batch: StagedBatch) -> LossOutput:
        """The loss of each transition. `batch`: actions [B, 1], returns [B] and discounts [B] are to be
        used."""

    def batch_loss(self, outputs: Outputs, batch: StagedBatch, size: int) -> BatchLoss:
        """The loss of outputs as networks give them, each [B, outputs]; its mean is over `size` transitions.

        The importance weight multiplies the loss, outside a clip of the slope (Schaul et al. 2016, algorithm
        1).
        """
        rows, columns = outputs.now.shape
        shape = (rows, columns // self.outputs_per_action, self.outputs_per_action)
        now, *others = [None if each is None else each.view(shape) for each in outputs]
        assert now is not None
        found, gradient = self._differentiate(Outputs(now, *others), batch)
        weighted = gradient.view(rows, columns).mul_(batch.weights.unsqueeze(1)).div_(size)
        return BatchLoss(batch.weights.dot(found.losses), found.priorities, weighted, found.targets)

    def _differentiate(self, outputs: Outputs, batch: StagedBatch) -> tuple[LossOutput, Tensor]:
        if not self.uses_autograd:
            found = self.loss(outputs, batch)
            assert found.output_gradient is not None
            return found, found.output_gradient
        import torch

        with torch.enable_grad():
            now = outputs.now.detach().requires_grad_()
            found = self.loss(outputs._replace(now=now), batch)
            (gradient,) = torch.autograd.grad(found.losses.sum(), now)
        losses, priorities, targets = found.losses.detach(), found.priorities.detach(), found.targets.detach()
        return LossOutput(losses, priorities, gradient, targets), gradient

    def first_priorities(
        self,
        chosen: NDArray[np.floating[Any]],
        returns: NDArray[np.floating[Any]],
        discounts: NDArray[np.floating[Any]],
        greatest_next: NDArray[np.floating[Any]],
    ) -> NDArray[np.floating[Any]]:
        """Priorities [B] of new transitions, computed by the explorer from the Q-values it acted on.

        |R + D max_a Q(s_{t+n}, a) - Q(s_t, a_t)| (Ape-X, Horgan et al. 2018, section 3). `chosen`: Q(s_t,
        a_t) [B]; `greatest_next`: max_a Q(s_{t+n}, a) [B].
        """
        return np.abs(returns + discounts * greatest_next - chosen)
