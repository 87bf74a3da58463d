"""Each installed algorithm keeps the contract of algorithms, and what breaks it is noticed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from actorq.learning.agent import Agent
from actorq.learning.algorithms import LossOutput, Need, Outputs
from actorq.learning.algorithms.dqn import DQN
from actorq.learning.algorithms.registry import usable_algorithms
from actorq.learning.staging import StagedBatch
from actorq.testing import algorithm_contract
from actorq.testing.algorithm_contract import check_algorithm

SETTINGS = [{}, {"double": False}, {"loss": "squared"}]


@pytest.mark.parametrize("name", usable_algorithms())
def test_each_algorithm_keeps_the_contract(name: str) -> None:
    check_algorithm(name)


@pytest.mark.parametrize("settings", SETTINGS)
def test_dqn_keeps_the_contract(settings: dict[str, Any]) -> None:
    check_algorithm("dqn", settings)


class Doubled(DQN):
    def loss(self, outputs: Outputs, batch: StagedBatch) -> LossOutput:
        found = super().loss(outputs, batch)
        assert found.output_gradient is not None
        return found._replace(output_gradient=2.0 * found.output_gradient)


class Mixed(DQN):
    def loss(self, outputs: Outputs, batch: StagedBatch) -> LossOutput:
        found = super().loss(outputs, batch)
        return found._replace(losses=found.losses + found.losses.mean() - found.losses.mean().detach())


class Pessimist(DQN):
    def q_values(self, outputs: Any) -> Any:
        return outputs[..., 0] - 1.0 if isinstance(outputs, torch.Tensor) else outputs[..., 0]


class Myopic(DQN):
    def loss(self, outputs: Outputs, batch: StagedBatch) -> LossOutput:
        return super().loss(outputs, batch._replace(discounts=batch.discounts * 0.5))


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (Doubled, "not the gradient of the losses"),
        (Mixed, "not the gradient of the losses"),
        (Pessimist, "numpy and torch differ"),
        (Myopic, "Q-values of the chain"),
    ],
)
def test_a_broken_algorithm_is_noticed(cls: type[DQN], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Agent, "make_algorithm", lambda agent: cls(agent.settings))
    with pytest.raises(AssertionError, match=words):
        check_algorithm("dqn", updates=200)


def test_other_fixed_points_can_be_expected() -> None:
    with pytest.raises(AssertionError, match="Q-values of the chain"):
        check_algorithm("dqn", updates=10, expected=algorithm_contract.optimal_values() + 1.0)


class Needy(DQN):
    needs = frozenset[Need]({"target_next"})

    def _next_values(self, outputs: Outputs) -> torch.Tensor:
        return super()._next_values(outputs) + outputs.target_now[:, 0, 0]  # type: ignore[index]


def test_an_evaluation_that_is_not_declared_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Agent, "make_algorithm", lambda agent: Needy(agent.settings))
    with pytest.raises(AssertionError, match="given what `needs` declares, target_next"):
        check_algorithm("dqn")


def test_unknown_needs_are_a_problem_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DQN, "needs", frozenset({"target_nxt"}))
    [(field, sentence)] = Agent().problems()
    assert field == "algorithm"
    assert "online_next, target_next, target_now" in sentence


def test_an_unknown_algorithm_is_no_algorithm() -> None:
    with pytest.raises(AssertionError, match="no such entry point"):
        check_algorithm("no_such_algorithm")


def test_the_chain_is_solved_by_its_closed_form() -> None:
    """Q* is a fixed point of the Bellman operator."""
    batch, best = algorithm_contract.chain(), algorithm_contract.optimal_values()
    after = best[batch.next_observations.argmax(1)].max(1)
    found = batch.returns + batch.discounts * after
    assert found == pytest.approx(best[batch.observations.argmax(1), batch.actions])
