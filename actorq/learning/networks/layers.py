"""A Q-network as named layers, made one at a time: who wants some of them never holds the others."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from actorq.learning.agent import Agent
from actorq.learning.distributed.sharding import shard_slices
from actorq.learning.pipeline.partition import LayerShape, StagePart, layer_shapes, task_layer_shapes

from .factory import make_network
from .networks import join_streams
from .task_layout import TaskSpaces

_STRIDES = {"nature_cnn": (4, 2, 1), "minatar_cnn": (1,)}


class Dueling(nn.Module):
    """Both heads of a dueling network: Q = V + A - mean(A), of one half each of what comes in."""

    def __init__(self, stream: int, actions: int) -> None:
        super().__init__()
        self.value = nn.Linear(stream, 1)
        self.advantage = nn.Linear(stream, actions)

    def forward(self, features: Tensor) -> Tensor:
        return join_streams(self.value, self.advantage, features)


class Layers(nn.Module):
    """Consecutive layers of a network for one task or several, parameters in the flat vector's order."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList()
        """One for each of several tasks, in the part that they begin with."""
        self.trunk = nn.Sequential()
        self.heads = nn.ModuleList()
        """One for each of several tasks, in the part that they end with."""

    def forward(self, inputs: Sequence[Tensor], rows: Sequence[int]) -> list[Tensor]:
        """From one tensor to one; before encoders and after heads there is one for each task, [rows, …]."""
        if self.encoders:
            present = [pair for pair in zip(self.encoders, inputs, strict=True) if len(pair[1])]
            inputs = [torch.cat([encoder(seen) for encoder, seen in present])]
        (features,) = inputs
        features = self.trunk(features)
        if not self.heads:
            return [features]
        parts = features.split(list(rows))
        return [head(part) for head, part in zip(self.heads, parts, strict=True)]


def make_layers(agent: Agent, tasks: Sequence[TaskSpaces], seed: int, part: StagePart) -> Layers:
    """Those of a part, with the initial weights that they have in the whole network of this seed.

    On the CPU and in float32. The others are made too, as weights are drawn in turn, but one at a time; a
    custom network is made as a whole first. Torch's global generator is left as it was. Raises ValueError
    as `make_network` does.
    """
    shapes = layer_shapes(agent, tasks)
    wanted = {layer.name for layer in shapes[part.begin : part.end]}
    if agent.custom:
        return _of_custom(agent, tasks[0], seed, wanted)
    layers, generator = Layers(), torch.Generator().manual_seed(seed)
    for task, spaces in enumerate(tasks):
        made = _draw_layers(agent, spaces, generator)
        if len(tasks) == 1:
            for name, modules in made:
                layers.trunk.extend(modules if name in wanted else [])
        else:
            _add_task(layers, made, wanted, first=task == 0)
    if part.columns > 1:
        rows = shard_slices(shapes[part.begin].columns, part.columns)[part.column]
        layers.trunk = nn.Sequential(*(_narrowed(module, rows) for module in layers.trunk))
    return layers


def _draw_layers(
    agent: Agent, spaces: TaskSpaces, generator: torch.Generator
) -> Iterator[tuple[str, list[nn.Module]]]:
    """All layers of a built-in network, one after the other, as torch would initialise them.

    With a generator of its own: several stages of one process may draw at a time.
    """
    for index, shape in enumerate(task_layer_shapes(agent, spaces)):
        with torch.device("meta"):
            modules = _make(agent, index, shape)
        for module in modules:
            module.to_empty(device="cpu")
            for product in module.modules():
                if isinstance(product, nn.Linear | nn.Conv2d):
                    _initialise(product, generator)
        yield shape.name, modules


def _initialise(product: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    """As `reset_parameters` of both does it."""
    nn.init.kaiming_uniform_(product.weight, a=math.sqrt(5), generator=generator)
    assert product.bias is not None
    bound = 1 / math.sqrt(product.weight[0].numel())
    nn.init.uniform_(product.bias, -bound, bound, generator=generator)


def _add_task(
    layers: Layers, made: Iterator[tuple[str, list[nn.Module]]], wanted: set[str], *, first: bool
) -> None:
    """One of several tasks' encoder and head, and of the first one the trunk; see `MultiTaskNetwork`."""
    encoder, head, encoding = nn.Sequential(), nn.Sequential(), True
    for name, modules in made:
        if encoding and "encoders" in wanted:
            encoder.extend(modules)
        elif name in ("output", "dueling") and "heads" in wanted:
            head.extend(modules)
        elif first and name in wanted:
            layers.trunk.extend(modules)
        encoding = encoding and name != "hidden.0"
    if encoder:
        layers.encoders.append(encoder)
    if head:
        layers.heads.append(head)


def _make(agent: Agent, index: int, layer: LayerShape) -> list[nn.Module]:
    """A built-in network's layer of that number, and its activation."""
    outputs, inputs, *kernel = layer.shapes[0]
    if kernel:
        return [nn.Conv2d(inputs, outputs, kernel[0], _STRIDES[agent.network][index]), nn.ReLU()]
    if layer.name == "dueling":
        return [Dueling(inputs, layer.shapes[2][0])]
    linear = [nn.Flatten(), nn.Linear(inputs, outputs)]
    return linear if layer.name == "output" else [*linear, nn.ReLU()]


def _narrowed(module: nn.Module, rows: slice) -> nn.Module:
    """Only some columns of what a product makes, which are rows of its weights."""
    if not isinstance(module, nn.Linear):
        return module
    narrow = nn.Linear(module.in_features, rows.stop - rows.start, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        narrow.weight.copy_(module.weight[rows])
        narrow.bias.copy_(module.bias[rows])
    return narrow


# Custom networks.


def custom_layer_shapes(agent: Agent, spaces: TaskSpaces) -> list[LayerShape]:
    """As `layer_shapes`, which see."""
    return [
        LayerShape(name, tuple(tuple(it.shape) for it in child.parameters()), splits=False)
        for name, child in _children(agent, spaces, seed=0).items()
    ]


_global_generator = threading.Lock()
"""Stages of one process make their parts in threads."""


def _children(agent: Agent, spaces: TaskSpaces, seed: int) -> dict[str, nn.Sequential]:
    """Those with parameters, each with those without that follow it; the first with all before it."""
    with _global_generator:
        network = make_network(agent, spaces.observation_shape, spaces.dtype, spaces.actions, seed)
    if not isinstance(network, nn.Sequential):
        raise ValueError(
            f"{agent.network!r} can't be cut: a custom network has to be an nn.Sequential, and it is a"
            f" {type(network).__name__}"
        )
    found: dict[str, nn.Sequential] = {}
    before: list[nn.Module] = []
    for name, child in network.named_children():
        if any(True for _ in child.parameters()):
            found[name] = nn.Sequential(*before, child)
            before = []
        elif found:
            list(found.values())[-1].append(child)
        else:
            before.append(child)
    return found


def _of_custom(agent: Agent, spaces: TaskSpaces, seed: int, wanted: set[str]) -> Layers:
    layers = Layers()
    for name, child in _children(agent, spaces, seed).items():
        if name in wanted:
            layers.trunk.append(child)
    return layers
