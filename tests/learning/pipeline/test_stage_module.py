"""A network in parts learns as the whole one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actorq.learning.agent import Agent
from actorq.learning.algorithms import Algorithm, LossOutput, Need, Outputs
from actorq.learning.algorithms.dqn import DQN
from actorq.learning.networks.factory import make_task_parameters
from actorq.learning.optimizers import clip_gradient_norm, make_optimizer
from actorq.learning.pipeline.activations import Activations, Outcomes, Tensors
from actorq.learning.pipeline.partition import StagePart, join_parts, layer_groups, make_parts
from actorq.learning.pipeline.stage_module import StageModule, head_loss
from actorq.learning.staging import StagedBatch
from actorq.learning.target import TargetNetwork
from actorq.learning.update import LearningRule
from tests.learning.networks.test_multi_task import Task
from tests.learning.test_update import Batch, draw

CPU = torch.device("cpu")
VECTOR = (Task((4,), 3),)
MLP = Agent(hidden=(12, 10, 8), target_every_updates=7)
SINGLE = Agent(hidden=(12, 10, 8), dqn=DQN.Config(double=False, loss="squared"))
CNN = Agent(network="nature_cnn", hidden=(9, 8), dueling=True, polyak=0.1)
PICTURE = (Task((2, 36, 36), 3, np.dtype(np.uint8)),)
SEVERAL = (Task((4,), 3), Task((2, 3), 3))
CUSTOM = Agent(network="tests.learning.sequences:Sequence", max_gradient_norm=0.5)


def run(
    layers: Sequence[StageModule],
    parts: Sequence[StagePart],
    number: int,
    inputs: Activations,
    rows: Sequence[int],
) -> Activations:
    """Forward through all parts; columns side by side."""
    made: list[Activations] = []
    for segment, part in zip(layers, parts, strict=True):
        if part.column == 0:
            made = []
        made.append(segment.forward(number, inputs, rows))
        if part.column == part.columns - 1:
            inputs = joined(made)
    return inputs


def joined(made: Sequence[Activations]) -> Activations:
    def join(name: str) -> Tensors:
        each = [getattr(one, name) for one in made]
        return tuple(np.concatenate(parts, axis=1) for parts in zip(*each, strict=True))

    return (
        made[0]
        if len(made) == 1
        else Activations(join("now"), join("online_next"), join("target_next"), join("target_now"))
    )


def back(layers: Sequence[StageModule], parts: Sequence[StagePart], number: int, gradients: Tensors) -> None:
    incoming: list[Tensors] = []
    for segment, part in reversed(list(zip(layers, parts, strict=True))):
        if part.columns == 1:
            gradients = segment.backward(number, gradients)
            continue
        columns = np.array_split(gradients[0], part.columns, axis=1)  # shares are equal in these tests
        incoming.append(segment.backward(number, (columns[part.column],)))
        if part.column == 0:
            gradients = tuple(np.sum(each, axis=0) for each in zip(*incoming, strict=True))
            incoming = []


def micro_batch(
    batches: Sequence[Batch], rows: slice, needs: frozenset[Need]
) -> tuple[Activations, list[Outcomes]]:
    now = tuple(batch.observations[rows] for batch in batches)
    later = tuple(batch.next_observations[rows] for batch in batches)
    outcomes = [
        Outcomes(batch.actions[rows], batch.returns[rows], batch.discounts[rows], batch.weights[rows])
        for batch in batches
    ]
    return Activations(
        now,
        later if "online_next" in needs else (),
        later if "target_next" in needs else (),
        now if "target_now" in needs else (),
    ), outcomes


def learn_in_parts(
    agent: Agent, tasks: Sequence[Task], parts: Sequence[StagePart], draws: Sequence[Sequence[Batch]]
) -> list[NDArray[Any]]:
    segments = [StageModule(agent, tasks, 3, part, CPU) for part in parts]
    algorithm, like = agent.make_algorithm(), segments[-1].online.vector
    for batches in draws:
        size = sum(len(batch.actions) for batch in batches)
        for number, rows in enumerate((slice(0, 2), slice(2, 3), slice(3, None))):
            inputs, outcomes = micro_batch(batches, rows, algorithm.needs)
            counts = [len(outcome.actions) for outcome in outcomes]
            outputs = run(segments, parts, number, inputs, counts)
            back(segments, parts, number, head_loss(algorithm, outputs, outcomes, size, like).gradients)
        norm = sum(segment.square_norm() for segment in segments) ** 0.5
        maximum = agent.max_gradient_norm or np.inf
        for segment in segments:
            segment.step(min(1.0, maximum / norm))
    assert not any(segment.in_flight_bytes for segment in segments)
    return [segment.online.read() for segment in segments]


def learn_whole(agent: Agent, tasks: Sequence[Any], draws: Sequence[Sequence[Batch]]) -> NDArray[Any]:
    online = make_task_parameters(agent, tasks, 3)
    target = TargetNetwork(agent, online)
    optimizer = make_optimizer(agent, online.vector, online.gradient)
    rule = LearningRule(agent, online, target.parameters)
    for updates, batches in enumerate(draws, 1):
        rule(*batches)
        clip_gradient_norm(online.gradient, agent.max_gradient_norm or np.inf)
        optimizer.step()
        target.follow(updates)
    return online.read()


@pytest.mark.parametrize(
    ("agent", "tasks", "stages", "columns", "updates"),
    [
        *((MLP, VECTOR, stages, {}, 30) for stages in (1, 2, 3, 4)),
        (MLP, VECTOR, 4, {"hidden.1": 2}, 100),
        (SINGLE, VECTOR, 5, {"hidden.0": 2}, 20),
        (CNN, PICTURE, 5, {"hidden.0": 3}, 3),
        (MLP, SEVERAL, 2, {}, 20),
        (SINGLE, SEVERAL, 5, {"hidden.2": 2}, 20),
        (CUSTOM, VECTOR, 3, {}, 20),
    ],
)
def test_parts_learn_what_the_whole_learns(
    agent: Agent,
    tasks: Sequence[Task],
    stages: int,
    columns: Mapping[str, int],
    updates: int,
) -> None:
    layers = layer_groups(agent, tasks)
    parts = make_parts(layers, stages, None, columns, [layer.size for layer in layers])
    draws = [
        [
            draw(6, task.observation_shape, str(task.dtype), index + 10 * number)
            for index, task in enumerate(tasks)
        ]
        for number in range(updates)
    ]
    learned = learn_in_parts(agent, tasks, parts, draws)
    np.testing.assert_allclose(
        join_parts(layers, parts, learned), learn_whole(agent, tasks, draws), rtol=0, atol=1e-5
    )


class Quantiles(Algorithm):
    """Three outputs for each action, a loss left to autograd, and every evaluation that there is."""

    outputs_per_action = 3
    needs = frozenset[Need]({"online_next", "target_next", "target_now"})

    def q_values(self, outputs: Any) -> Any:
        return outputs.mean(-1)

    def loss(self, outputs: Outputs, batch: StagedBatch) -> LossOutput:
        assert outputs.online_next is not None
        assert outputs.target_next is not None
        assert outputs.target_now is not None
        greedy = self.q_values(outputs.online_next).argmax(1, keepdim=True)
        bonus = self.q_values(outputs.target_now).log_softmax(1).gather(1, batch.actions).clamp(min=-1.0)
        after = outputs.target_next.gather(1, greedy.unsqueeze(2).expand(-1, -1, 3)).squeeze(1)
        targets = batch.returns.unsqueeze(1) + bonus + batch.discounts.unsqueeze(1) * after
        mine = outputs.now.gather(1, batch.actions.unsqueeze(2).expand(-1, -1, 3)).squeeze(1)
        errors = (targets - mine).square().mean(1)
        return LossOutput(errors, errors.detach().sqrt(), None, targets)


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize(("tasks", "stages"), [(VECTOR, 3), (SEVERAL, 2)])
def test_parts_learn_by_any_algorithm(
    tasks: Sequence[Task], stages: int, dueling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Agent, "make_algorithm", lambda agent: Quantiles(agent.settings))
    agent = msgspec.structs.replace(MLP, dueling=dueling)
    layers = layer_groups(agent, tasks)
    assert layers[-1].size % 3 == 0
    parts = make_parts(layers, stages, None, {}, [layer.size for layer in layers])
    draws = [
        [draw(6, task.observation_shape, str(task.dtype), number) for task in tasks] for number in range(10)
    ]
    learned = join_parts(layers, parts, learn_in_parts(agent, tasks, parts, draws))
    np.testing.assert_allclose(learned, learn_whole(agent, tasks, draws), rtol=0, atol=1e-5)
