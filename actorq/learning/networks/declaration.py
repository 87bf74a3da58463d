"""Declared layers of a Q-network, and the shapes that follow from them. Free of torch.

A network is declared once, as a sequence of layers. The torch module, the forward pass in numpy, the order
of the flat parameter vector, the parts of a pipeline and the slices of several tasks are all derived from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

Shape: TypeAlias = tuple[int, ...]
Positive = Annotated[int, Meta(gt=0)]


class _Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="layer"):
    pass


class Conv(_Layer, frozen=True, kw_only=True, tag="conv"):
    """A convolution over [channels, height, width], with bias."""

    filters: Annotated[int, Meta(gt=0, description="Channels of its output.")]
    kernel: Annotated[int, Meta(gt=0, description="Height and width of the kernel.")]
    stride: Annotated[int, Meta(gt=0, description="Pixels from one output to the next.")] = 1
    padding: Annotated[int, Meta(ge=0, description="Zeros added on each side.")] = 0


class Linear(_Layer, frozen=True, kw_only=True, tag="linear"):
    """A fully connected layer with bias; its input is flattened."""

    width: Annotated[int, Meta(gt=0, description="Numbers it makes of each row.")]


class Relu(_Layer, frozen=True, kw_only=True, tag="relu"):
    """max(x, 0)."""


class LayerNorm(_Layer, frozen=True, kw_only=True, tag="layer_norm"):
    """Normalization of each row to mean 0 and variance 1 over all its features, then a learned scale and
    shift for each feature (Ba et al. 2016, arXiv 1607.06450); epsilon 1e-5."""


class Residual(_Layer, frozen=True, kw_only=True, tag="residual"):
    """x + f(x), where f is a sequence of layers that keeps the shape (He et al. 2016, arXiv 1512.03385)."""

    layers: Annotated[
        tuple[Conv | Linear | Relu | LayerNorm, ...],
        Meta(min_length=1, description="The layers f; their output has the shape of their input."),
    ]


Layer: TypeAlias = Conv | Linear | Relu | LayerNorm | Residual

_NATURE = (
    Conv(filters=32, kernel=8, stride=4),
    Conv(filters=64, kernel=4, stride=2),
    Conv(filters=64, kernel=3),
)

BUILT_IN: Mapping[str, tuple[Sequence[Conv], tuple[int, ...]]] = {
    "mlp": ((), (128, 128)),
    "nature_cnn": (_NATURE, (512,)),
    "minatar_cnn": ((Conv(filters=16, kernel=3),), (128,)),
}
"""Convolutions, and the widths of the hidden layers where the file has none. nature_cnn: Mnih et al. 2015,
Methods, "Model architecture"; minatar_cnn: Young & Tian 2019, arXiv 1903.03176."""


def built_in(network: str, hidden: Sequence[int]) -> tuple[Layer, ...]:
    """The layers of a built-in network, without its head; a ReLU follows each."""
    products: list[Layer] = [*BUILT_IN[network][0], *(Linear(width=width) for width in hidden)]
    return tuple(layer for product in products for layer in (product, Relu()))


class Head(NamedTuple):
    """The last layer, from features to the outputs of all actions.

    Dueling (Wang et al. 2016, arXiv 1511.06581, equation 9): the first half of the features is the value
    stream V, the second the advantage stream A, and the outputs are V + A - mean(A) over the actions, for
    each of `per_action` outputs of an action by itself.
    """

    actions: int
    per_action: int
    dueling: bool


class PlacedLayer(NamedTuple):
    """A layer with the shapes it has in one network."""

    name: str
    layer: Layer | Head
    inputs: Shape
    outputs: Shape
    parameters: tuple[Shape, ...]
    """In the order of the flat vector: a weight [outputs, inputs, …], then its bias or shift."""
    inner: tuple[PlacedLayer, ...] = ()
    """The layers of a Residual."""


def place_layers(layers: Sequence[Layer], head: Head, observation_shape: Shape) -> list[PlacedLayer]:
    """Each layer, the head last, with its shapes for such observations.

    With a dueling head the last hidden layer is twice as wide: both streams are one product.
    Raises ValueError for layers that don't fit the observations, and for a dueling head without a hidden
    layer.
    """
    if head.dueling:
        layers = _with_two_streams(layers)
    placed = list(_placed(layers, observation_shape))
    features = math.prod(placed[-1].outputs if placed else observation_shape)
    return [*placed, _placed_head(head, features)]


def _with_two_streams(layers: Sequence[Layer]) -> list[Layer]:
    last = max((index for index, layer in enumerate(layers) if isinstance(layer, Linear)), default=None)
    if last is None or any(not isinstance(layer, Relu) for layer in layers[last + 1 :]):
        raise ValueError(
            "dueling splits the last hidden layer in two streams,"
            " and the network doesn't end with a linear layer"
        )
    widest = layers[last]
    assert isinstance(widest, Linear)
    return [*layers[:last], Linear(width=2 * widest.width), *layers[last + 1 :]]


_NAMES = {
    Conv: "convolutions",
    Linear: "hidden",
    Relu: "relus",
    LayerNorm: "layer_norms",
    Residual: "residuals",
}


def _placed(layers: Sequence[Layer], shape: Shape) -> Iterator[PlacedLayer]:
    counts = dict.fromkeys(_NAMES, 0)
    for layer in layers:
        kind = type(layer)
        placed = _place(f"{_NAMES[kind]}.{counts[kind]}", layer, shape)
        counts[kind] += 1
        yield placed
        shape = placed.outputs


def _place(name: str, layer: Layer, shape: Shape) -> PlacedLayer:
    if isinstance(layer, Conv):
        return _placed_convolution(name, layer, shape)
    if isinstance(layer, Linear):
        inputs, width = math.prod(shape), layer.width
        return PlacedLayer(name, layer, (inputs,), (width,), ((width, inputs), (width,)))
    if isinstance(layer, LayerNorm):
        return PlacedLayer(name, layer, shape, shape, (shape, shape))
    if isinstance(layer, Relu):
        return PlacedLayer(name, layer, shape, shape, ())
    inner = tuple(_placed(layer.layers, shape))
    outputs = inner[-1].outputs if inner else shape
    if outputs != shape:
        raise ValueError(
            f"{name} adds its input {list(shape)} to its layers' output {list(outputs)}: make them alike"
        )
    parameters = tuple(shape for placed in inner for shape in placed.parameters)
    return PlacedLayer(name, layer, shape, shape, parameters, inner)


def _placed_convolution(name: str, layer: Conv, shape: Shape) -> PlacedLayer:
    if len(shape) != 3:
        raise ValueError(f"{name} takes pictures [channels, height, width], not {list(shape)}")
    channels, *sides = shape
    made = [(side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in sides]
    weight = (layer.filters, channels, layer.kernel, layer.kernel)
    return PlacedLayer(name, layer, shape, (layer.filters, *made), (weight, (layer.filters,)))


def _placed_head(head: Head, features: int) -> PlacedLayer:
    outputs = head.actions * head.per_action
    if not head.dueling:
        return PlacedLayer("output", head, (features,), (outputs,), ((outputs, features), (outputs,)))
    stream = features // 2
    value = ((head.per_action, stream), (head.per_action,))
    advantage = ((outputs, stream), (outputs,))
    return PlacedLayer("dueling", head, (features,), (outputs,), (*value, *advantage))


def least_side(layers: Sequence[Layer]) -> int:
    """The least height and width of images for which the convolutions have outputs; 0 without
    convolutions.
    """
    convolutions = [layer for layer in layers if isinstance(layer, Conv)]
    side = 1 if convolutions else 0
    for layer in reversed(convolutions):
        side = (side - 1) * layer.stride + layer.kernel - 2 * layer.padding
    return side


class LayerGroup(NamedTuple):
    """A layer that has parameters, with those without that follow it; the first with all before it."""

    name: str
    layers: tuple[PlacedLayer, ...]
    """Empty in a custom network."""
    shapes: tuple[Shape, ...]
    """Of its parameters, in the order of the flat vector."""
    columns: int = 0
    """Number of outputs for each row, if it is one product, whose columns can be computed separately;
    else 0.
    """

    @property
    def size(self) -> int:
        """Number of its parameters."""
        return size(self.shapes)


def group_layers(placed: Sequence[PlacedLayer]) -> list[LayerGroup]:
    """The layers of a network in groups that a pipeline can be cut between."""
    groups: list[list[PlacedLayer]] = [[]]
    for layer in placed:
        if layer.parameters and any(before.parameters for before in groups[-1]):
            groups.append([])
        groups[-1].append(layer)
    return [join_layers("", group) for group in groups]


def join_layers(name: str, layers: Sequence[PlacedLayer]) -> LayerGroup:
    """One group of these layers, by default under the name of the one that has parameters."""
    with_parameters = [layer for layer in layers if layer.parameters]
    shapes = tuple(shape for layer in layers for shape in layer.parameters)
    name = name or with_parameters[0].name
    columns = layers[-1].outputs[0] if len(with_parameters) == 1 and all(map(_by_column, layers)) else 0
    return LayerGroup(name, tuple(layers), shapes, columns)


def _by_column(placed: PlacedLayer) -> bool:
    layer = placed.layer
    return isinstance(layer, Linear | Relu) or (isinstance(layer, Head) and not layer.dueling)


def size(shapes: Sequence[Shape]) -> int:
    """Number of numbers that arrays of these shapes hold together."""
    return sum(map(math.prod, shapes))
