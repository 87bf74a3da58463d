"""Where a network is cut: balanced as well as can be, and whatever can't be is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import parameters_to_vector

from actorq.learning.agent import Agent
from actorq.learning.networks.declaration import LayerGroup
from actorq.learning.networks.factory import make_task_parameters
from actorq.learning.pipeline.layer_costs import layer_seconds
from actorq.learning.pipeline.partition import (
    StagePart,
    cut_problems,
    join_parts,
    layer_groups,
    make_parts,
    part_size,
)
from actorq.learning.pipeline.stage_module import make_part
from tests.learning.networks.test_multi_task import AGENTS, Task

MLP = Agent(hidden=(12, 10, 8))
DUELING = Agent(network="minatar_cnn", hidden=(9, 8), dueling=True)
VECTOR = (Task((4,), 3),)
PICTURE = (Task((4, 7, 8), 3, np.dtype(np.uint8)),)


def plain(costs: Sequence[int]) -> list[LayerGroup]:
    return [LayerGroup(f"layer.{index}", (), ((cost, 1),), columns=cost) for index, cost in enumerate(costs)]


@given(st.data())
def test_the_dearest_part_is_as_cheap_as_it_can_be(data: st.DataObject) -> None:
    costs = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=7))
    stages = data.draw(st.integers(1, len(costs)))
    parts = make_parts(plain(costs), stages, None, {}, costs)
    assert [(part.position, part.begin) for part in parts] == [
        (position, begin) for position, begin in enumerate([0, *(part.end for part in parts[:-1])])
    ]
    assert parts[-1].end == len(costs)
    best = min(
        max(sum(costs[begin:end]) for begin, end in pairwise([0, *cuts, len(costs)]))
        for cuts in combinations(range(1, len(costs)), stages - 1)
    )
    assert max(sum(costs[part.begin : part.end]) for part in parts) == best


@given(st.data())
def test_a_layer_that_is_split_stands_alone(data: st.DataObject) -> None:
    costs = data.draw(st.lists(st.integers(4, 20), min_size=2, max_size=6))
    split = data.draw(st.dictionaries(st.sampled_from(range(len(costs))), st.integers(2, 4), max_size=2))
    columns = {f"layer.{index}": count for index, count in split.items()}
    layers = plain(costs)
    stages = len(costs) + sum(count - 1 for count in columns.values())
    assert not list(cut_problems(layers, stages, None, columns))
    parts = make_parts(layers, stages, None, columns, costs)
    assert len(parts) == stages
    for index, count in split.items():
        assert [part for part in parts if part.begin == index] == [
            StagePart(index, index, index + 1, column, count) for column in range(count)
        ]


@pytest.mark.parametrize(("agent", "tasks"), [*AGENTS, (MLP, VECTOR), (DUELING, PICTURE)])
def test_parts_begin_as_the_whole_begins(agent: Agent, tasks: Sequence[Task]) -> None:
    layers = layer_groups(agent, tasks)
    whole = make_task_parameters(agent, tasks, 3).read()
    splits = [layer.name for layer in layers if layer.columns][:1]
    for columns in ({}, dict.fromkeys(splits, 2)):
        for stages in range(1 + 3 * len(columns), 1 + len(layers)):
            parts = make_parts(layers, stages, None, columns, [layer.size for layer in layers])
            vectors = [
                parameters_to_vector(make_part(agent, tasks, 3, part).parameters()).detach().numpy()
                for part in parts
            ]
            assert [part_size(layers, part) for part in parts] == [len(vector) for vector in vectors]
            np.testing.assert_array_equal(join_parts(layers, parts, vectors), whole)


def test_making_layers_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    make_part(MLP, VECTOR, 3, StagePart(0, 1, 2, 1, 2))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("stages", "begins", "columns", "setting", "words"),
    [
        (2, ["hidden.9"], {}, "cut", "no layer 'hidden.9'; it has hidden.0, hidden.1, hidden.2, output"),
        (3, ["output", "hidden.1"], {}, "cut", "not the network's order, which is hidden.1, output"),
        (2, ["hidden.0"], {}, "cut", "'hidden.0' is the very first layer"),
        (2, ["hidden.0"], {}, "cut", "; choose from hidden.1, hidden.2, output"),
        (3, ["hidden.1", "hidden.1"], {}, "cut", "'hidden.1' is named twice; one stage begins with it"),
        (5, None, {}, "cut", "4 layers, too few for 5 stages"),
        (2, None, {"hidden.1": 2}, "columns", "needs 4 stages at least, and the port stages has 2"),
        (9, None, {"output": 4}, "columns", "output has 3 columns, too few for 4"),
        (9, None, {"value": 2}, "columns", "no layer 'value'"),
    ],
)
def test_what_cant_be_cut_is_told(
    stages: int, begins: list[str] | None, columns: Mapping[str, int], setting: str, words: str
) -> None:
    problems = list(cut_problems(layer_groups(MLP, VECTOR), stages, begins, columns))
    assert problems[0][0] == setting
    assert words in problems[0][1]


@pytest.mark.parametrize(
    ("stages", "columns", "words"),
    [
        (4, {}, "makes 2 stages, and the port stages has 4: let it be 2, or name 3 layers"),
        (1, {}, "makes 2 stages, and the port stages has 1: let it be 2, or name no layers"),
        (9, {}, "let it be 2, or name more layers and let it be 4 at most"),
        (3, {"hidden.1": 2}, "makes 4 stages together with columns, and the port stages has 3: let it be 4"),
        (3, {"hidden.1": 2}, "or split less by columns"),
        (5, {"hidden.1": 2}, "let it be 4, or name 1 layer besides those where columns cuts"),
        (9, {"hidden.1": 2}, "let it be 4, or name more layers and let it be 5 at most"),
    ],
)
def test_a_wrong_number_of_stages_is_told_with_what_would_be_right(
    stages: int, columns: Mapping[str, int], words: str
) -> None:
    [(setting, problem)] = cut_problems(layer_groups(MLP, VECTOR), stages, ["hidden.1"], columns)
    assert setting == "cut"
    assert words in problem


def test_all_that_is_wrong_with_where_stages_begin_is_told_at_once() -> None:
    begins = ["hidden.2", "hidden.0", "hidden.1", "hidden.1"]
    told = [problem for _, problem in cut_problems(layer_groups(MLP, VECTOR), 4, begins, {})]
    about = [problem.partition(" is ")[0] for problem in told]
    assert about == ["'hidden.0'", "'hidden.1'", "hidden.2, hidden.1"]


def test_a_convolution_cant_be_split_and_nor_can_two_heads() -> None:
    layers = layer_groups(DUELING, PICTURE)
    assert [layer.name for layer in layers] == ["convolutions.0", "hidden.0", "hidden.1", "dueling"]
    for name in ("convolutions.0", "dueling"):
        [(setting, problem)] = list(cut_problems(layers, 4, None, {name: 2}))
        assert (setting, problem) == (
            "columns",
            f"{name} can't be split by columns; hidden.0, hidden.1 can",
        )


def test_a_custom_network_is_cut_by_its_childrens_names() -> None:
    agent = Agent(network="tests.learning.sequences:Sequence")
    assert [layer.name for layer in layer_groups(agent, VECTOR)] == ["first", "norm", "second", "output"]
    with pytest.raises(ValueError, match=r"has to be an nn\.Sequential, and it is a Tanh"):
        layer_groups(Agent(network="tests.learning.custom:Tanh"), VECTOR)


@pytest.mark.parametrize(("agent", "tasks"), [AGENTS[0], (DUELING, PICTURE)])
def test_each_layers_time_is_measured(agent: Agent, tasks: Sequence[Task]) -> None:
    seconds = layer_seconds(agent, tasks, rows=2)
    assert len(seconds) == len(layer_groups(agent, tasks))
    assert min(seconds) > 0.0
