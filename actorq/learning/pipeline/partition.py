"""Partition of a Q-network: between its layers, and of a wide layer by its columns.

Free of torch for the built-in networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from actorq.learning.agent import Agent
from actorq.learning.distributed.sharding import shard_slices
from actorq.learning.networks.declaration import LayerGroup, join_layers
from actorq.learning.networks.spec import TaskSpaces, shared_from, task_groups


class StagePart(msgspec.Struct, frozen=True):
    """The part of one stage: consecutive layers, or some columns of one layer."""

    position: int
    """Position in the pipeline, from 0; stages with columns of the same layer share one."""
    begin: int
    end: int
    """The first layer's number, and the last one's plus one."""
    column: int = 0
    """Index of its share of the columns, from 0."""
    columns: int = 1
    """Number of shares of the columns."""


def layer_groups(agent: Agent, tasks: Sequence[TaskSpaces]) -> list[LayerGroup]:
    """The layers in the order of computation, which is that of the flat vector.

    Called `convolutions.0`, …, `hidden.0`, …, and `output` or, both streams together, `dueling`. For several
    tasks: `encoders`, `hidden.1`, …, `heads`. A custom network is cut by the names of its children; it must
    be an `nn.Sequential`. Raises ValueError if it is not, and for networks that don't fit the tasks.
    """
    if agent.custom:
        from actorq.learning.networks.factory import custom_groups

        return custom_groups(agent, tasks[0])
    each = [task_groups(agent, task) for task in tasks]
    if len(tasks) == 1:
        return each[0]
    shared = [shared_from(groups) for groups in each]
    encoders = [
        layer
        for groups, end in zip(each, shared, strict=True)
        for group in groups[:end]
        for layer in group.layers
    ]
    heads = [layer for groups in each for layer in groups[-1].layers]
    return [join_layers("encoders", encoders), *each[0][shared[0] : -1], join_layers("heads", heads)]


def part_size(layers: Sequence[LayerGroup], part: StagePart) -> int:
    """Number of a part's parameters."""
    size: int = sum(layer.size for layer in layers[part.begin : part.end])
    if part.columns == 1:
        return size
    rows = shard_slices(layers[part.begin].columns, part.columns)[part.column]
    return size // layers[part.begin].columns * int(rows.stop - rows.start)


def join_parts(
    layers: Sequence[LayerGroup], parts: Sequence[StagePart], vectors: Sequence[NDArray[Any]]
) -> NDArray[Any]:
    """The whole flat vector, joined from each part's. Raises ValueError for vectors of other sizes."""
    pieces: list[NDArray[Any]] = []
    biases: list[NDArray[Any]] = []
    for part, vector in zip(parts, vectors, strict=True):
        if vector.shape != (part_size(layers, part),):
            raise ValueError(f"{part} has {part_size(layers, part)} parameters, not {list(vector.shape)}")
        if part.columns == 1:
            pieces.append(vector)
            continue
        columns, inputs = layers[part.begin].shapes[0]
        share = shard_slices(columns, part.columns)[part.column]
        weights = (share.stop - share.start) * inputs
        pieces.append(vector[:weights])
        biases.append(vector[weights:])
        if part.column == part.columns - 1:
            pieces += biases
            biases = []
    return np.concatenate(pieces)


def split_parts(
    layers: Sequence[LayerGroup], parts: Sequence[StagePart], vector: NDArray[Any]
) -> list[NDArray[Any]]:
    """Copies of each part's slice of the whole flat vector, the inverse of `join_parts`.

    Raises ValueError for a vector of another size.
    """
    ends = np.cumsum([0, *(layer.size for layer in layers)])
    if vector.shape != (ends[-1],):
        raise ValueError(f"the network has {ends[-1]} parameters; the vector is {list(vector.shape)}")
    slices = []
    for part in parts:
        whole = vector[ends[part.begin] : ends[part.end]]
        if part.columns > 1:
            columns, inputs = layers[part.begin].shapes[0]
            share = shard_slices(columns, part.columns)[part.column]
            weights, biases = whole[: columns * inputs], whole[columns * inputs :]
            whole = np.concatenate([weights[share.start * inputs : share.stop * inputs], biases[share]])
        slices.append(np.array(whole))
    return slices


# Where to cut.


def cut_problems(
    layers: Sequence[LayerGroup], stages: int, begins: Sequence[str] | None, columns: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """Yield (setting, sentence) for everything that prevents this partition; `make_parts` needs none."""
    names = [layer.name for layer in layers]
    for setting, given in (("cut", begins or ()), ("columns", columns)):
        for name in given:
            if name not in names:
                yield setting, f"the network has no layer {name!r}; it has {', '.join(names)}"
    if not set(names).issuperset([*(begins or ()), *columns]):
        return
    for name, count in columns.items():
        layer = layers[names.index(name)]
        if not layer.columns:
            able = ", ".join(other.name for other in layers if other.columns)
            yield "columns", f"{name} can't be split by columns; {able or 'no other layer either'} can"
        elif count > layer.columns:
            yield "columns", f"{name} has {layer.columns} columns, too few for {count} stages"
    if misplaced := list(_begin_problems(names, begins or ())):
        yield from (("cut", sentence) for sentence in misplaced)
        return
    helpers = sum(count - 1 for count in columns.values())
    forced = len(_begins(layers, begins or (), columns))
    positions = stages - helpers
    if begins is not None and positions != forced:
        by_columns = len(_begins(layers, (), columns))
        yield "cut", _wrong_number(forced, positions, helpers, by_columns, len(layers))
    elif positions < forced:
        yield "columns", f"needs {forced + helpers} stages at least, and the port stages has {stages}"
    elif positions > len(layers):
        yield "cut", f"the network has {len(layers)} layers, too few for {stages} stages"


def _begin_problems(names: Sequence[str], begins: Sequence[str]) -> Iterator[str]:
    """Problems with the layers that stages begin with, which all are names of layers."""
    first, *others = names
    if first in begins:
        where = f"choose from {', '.join(others)}" if others else "the network has no other"
        yield f"{first!r} is the very first layer, where the first stage begins anyway; {where}"
    for name in dict.fromkeys(begins):
        if begins.count(name) > 1:
            yield f"{name!r} is named twice; one stage begins with it, so name it once"
    found = [name for name in dict.fromkeys(begins) if name != first]
    ordered = sorted(found, key=names.index)
    if found != ordered:
        yield f"{', '.join(found)} is not the network's order, which is {', '.join(ordered)}"


def _wrong_number(forced: int, positions: int, helpers: int, by_columns: int, layers: int) -> str:
    """`cut` makes another number of stages than there are: the sentence, with the remedies.

    `forced`: positions that it makes, `by_columns` those that `columns` makes without it; `helpers`: stages
    beside the first of their position.
    """
    made, stages, more = forced + helpers, positions + helpers, positions - by_columns
    if more < 0:
        mend = "split less by columns"
    elif positions > layers:
        mend = f"name more layers and let it be {layers + helpers} at most"
    else:
        mend = f"name {more or 'no'} layer{'' if more == 1 else 's'}"
        mend += " besides those where columns cuts" if helpers else ""
    together = " together with columns" if helpers else ""
    return f"makes {made} stages{together}, and the port stages has {stages}: let it be {made}, or {mend}"


def make_parts(
    layers: Sequence[LayerGroup],
    stages: int,
    begins: Sequence[str] | None,
    columns: Mapping[str, int],
    costs: Sequence[float],
) -> list[StagePart]:
    """Each stage's part: cut where `begins` says or, if it is None, so that the most expensive part is
    cheapest.

    A layer that is split by columns is alone. `costs`: the cost of each layer.
    """
    first = _begins(layers, begins or (), columns)
    positions = stages - sum(count - 1 for count in columns.values())
    if begins is None:
        shared = [cost / columns.get(layer.name, 1) for layer, cost in zip(layers, costs, strict=True)]
        first = _balanced(shared, positions, first)
    parts: list[StagePart] = []
    for position, (begin, end) in enumerate(zip(first, [*first[1:], len(layers)], strict=True)):
        count = columns.get(layers[begin].name, 1)
        parts += [StagePart(position, begin, end, column, count) for column in range(count)]
    return parts


def _begins(layers: Sequence[LayerGroup], begins: Sequence[str], columns: Mapping[str, int]) -> list[int]:
    """Positions that begin in any case: as named, and around each layer that is split."""
    names = [layer.name for layer in layers]
    split = [names.index(name) for name in columns if columns[name] > 1]
    found = {0, *map(names.index, begins), *split, *(index + 1 for index in split)}
    return sorted(found - {len(layers)})


def _balanced(costs: Sequence[float], positions: int, forced: Sequence[int]) -> list[int]:
    """Beginnings of this many consecutive runs, `forced` among them, with the least cost of the most
    expensive run.
    """
    best: dict[tuple[int, int], tuple[float, list[int]]] = {(len(costs), 0): (0.0, [])}
    for begin in reversed(range(len(costs))):
        last = min((index for index in forced if index > begin), default=len(costs))
        for runs in range(1, len(costs) - begin + 1):
            found = [
                (max(sum(costs[begin:end]), best[end, runs - 1][0]), [begin, *best[end, runs - 1][1]])
                for end in range(begin + 1, last + 1)
                if (end, runs - 1) in best
            ]
            if found:
                best[begin, runs] = min(found)
    return best[0, positions][1]
