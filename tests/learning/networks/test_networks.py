"""The Q-networks: shapes, layers, initial weights, and what does not fit is refused."""

import pytest
import torch
from torch import nn

from actorq.learning.agent import Agent
from actorq.learning.networks.declaration import Conv, Head, Layer, LayerNorm, Linear, Relu, Residual
from actorq.learning.networks.factory import make_network, make_parameters
from actorq.learning.networks.module import DuelingHead
from actorq.learning.networks.spec import network_layers

BUILT_IN = [
    ("mlp", (3, 2), "float32"),
    ("nature_cnn", (4, 84, 84), "uint8"),
    ("nature_cnn", (1, 36, 40), "uint8"),
    ("minatar_cnn", (4, 10, 10), "bool"),
    ("minatar_cnn", (7, 3, 5), "float32"),
]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize(("network", "shape", "dtype"), BUILT_IN)
def test_one_value_per_action(network: str, shape: tuple[int, ...], dtype: str, dueling: bool) -> None:
    module = make_network(Agent(network=network, dueling=dueling), shape, dtype, 5, seed=0)
    q_values = module(torch.rand(2, *shape))
    assert q_values.shape == (2, 5)
    assert (q_values[0] != q_values[1]).all()


def made(agent: Agent, shape: tuple[int, ...], actions: int) -> nn.Sequential:
    network = make_network(agent, shape, "float32", actions, seed=0)
    assert isinstance(network, nn.Sequential)
    return network


def test_sizes_are_the_papers() -> None:
    nature = made(Agent(network="nature_cnn"), (4, 84, 84), 18)
    assert parameters(nature) == 8224 + 32832 + 36928 + 3136 * 512 + 512 + 512 * 18 + 18
    minatar = made(Agent(network="minatar_cnn"), (4, 10, 10), 6)
    assert parameters(minatar) == 16 * 4 * 9 + 16 + 1024 * 128 + 128 + 128 * 6 + 6


def test_minatar_takes_frames_as_the_environments_give_them() -> None:
    """Whatever side of an observation its channels are on, `Environments` puts them first."""
    network = made(Agent(network="minatar_cnn", hidden=(8,)), (4, 10, 9), 2)
    convolution, first = network[0], network[3]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(first, nn.Linear)
    assert (convolution.in_channels, first.in_features) == (4, 16 * 8 * 7)
    assert network(torch.zeros(1, 4, 10, 9)).shape == (1, 2)


@pytest.mark.parametrize("per_action", [1, 3])
def test_dueling_advantages_are_relative_to_their_mean(per_action: int) -> None:
    head = DuelingHead(Head(actions=4, per_action=per_action, dueling=True), 12)
    x = torch.rand(5, 12)
    value, advantage = head.value(x[:, :6]), head.advantage(x[:, 6:]).view(5, 4, per_action)
    outputs = head(x).view(5, 4, per_action)
    torch.testing.assert_close(outputs.mean(1), value)
    torch.testing.assert_close(outputs - value[:, None], advantage - advantage.mean(1, keepdim=True))


RESIDUAL = (
    Linear(width=6),
    LayerNorm(),
    Relu(),
    Residual(layers=(Linear(width=8), Relu(), Linear(width=6))),
    Relu(),
    Linear(width=5),
    Relu(),
)
PICTURES = (
    Conv(filters=6, kernel=3),
    Residual(layers=(Relu(), Conv(filters=6, kernel=3, padding=1), LayerNorm())),
    Relu(),
    Linear(width=7),
    Relu(),
)


@pytest.mark.parametrize(
    ("agent", "shape"),
    [
        *(
            (Agent(hidden=hidden, dueling=dueling), (2, 3))
            for hidden, dueling in [
                ((), False),
                ((7,), False),
                ((7,), True),
                ((7, 5), True),
                ((3, 4, 5), True),
            ]
        ),
        (Agent(network="minatar_cnn"), (4, 10, 9)),
        (Agent(network=RESIDUAL), (2, 3)),
        (Agent(network=RESIDUAL, dueling=True), (4,)),
        (Agent(network=PICTURES), (4, 7, 8)),
    ],
)
def test_the_shapes_without_torch_are_the_networks(agent: Agent, shape: tuple[int, ...]) -> None:
    network = make_network(agent, shape, "float32", 4, seed=0)
    shapes = [shape for layer in network_layers(agent, shape, 4) for shape in layer.parameters]
    assert [tuple(p.shape) for _, p in network.named_parameters()] == shapes


def test_a_declared_network_computes_what_is_declared() -> None:
    network = made(Agent(network=RESIDUAL), (4,), 3)
    weights = [parameter.detach() for parameter in network.parameters()]
    x = torch.rand(5, 4)
    features = torch.nn.functional.layer_norm(
        x @ weights[0].T + weights[1], (6,), weights[2], weights[3]
    ).relu()
    inner = (features @ weights[4].T + weights[5]).relu() @ weights[6].T + weights[7]
    last = ((features + inner).relu() @ weights[8].T + weights[9]).relu()
    torch.testing.assert_close(network(x), last @ weights[10].T + weights[11])


def test_initial_weights_are_torchs_own() -> None:
    """As if the layers were made one after the other from torch's generator."""
    network = make_network(Agent(network="minatar_cnn", hidden=(8,)), (4, 5, 5), "float32", 3, seed=9)
    with torch.random.fork_rng():
        torch.manual_seed(9)
        expected = [nn.Conv2d(4, 16, 3), nn.Linear(16 * 3 * 3, 8), nn.Linear(8, 3)]
    for parameter, twin in zip(network.parameters(), nn.ModuleList(expected).parameters(), strict=True):
        assert torch.equal(parameter, twin)


@pytest.mark.parametrize(
    ("network", "shape", "words"),
    [
        ((Linear(width=4), Conv(filters=2, kernel=1)), (4, 7, 8), r"convolutions.0 takes pictures"),
        ((Conv(filters=2, kernel=9),), (4, 7, 8), "at least 9"),
        ((Residual(layers=(Linear(width=3),)),), (4,), r"residuals.0 adds its input \[4\] .*output \[3\]"),
    ],
)
def test_layers_that_do_not_fit_are_refused(
    network: tuple[Layer, ...], shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        make_network(Agent(network=network), shape, "float32", 3, seed=0)


def test_dueling_needs_a_last_hidden_layer() -> None:
    network = (Linear(width=4), LayerNorm())
    with pytest.raises(ValueError, match="doesn't end with a linear layer"):
        make_network(Agent(network=network, dueling=True), (4,), "float32", 3, seed=0)


def test_a_linear_q_on_one_hot_observations_is_a_table() -> None:
    network = made(Agent(hidden=()), (6,), 3)
    output = network[-1]
    assert isinstance(output, nn.Linear)
    torch.testing.assert_close(network(torch.eye(6)), output.weight.T + output.bias)


@pytest.mark.parametrize("network", ["mlp", "tests.learning.custom:Tanh"])
def test_initial_weights_depend_on_the_seed_alone(network: str) -> None:
    agent = Agent(network=network)
    first = make_parameters(agent, (4,), "float32", 2, seed=3)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    second = make_parameters(agent, (4,), "float32", 2, seed=3)
    torch.testing.assert_close(torch.rand(3), expected, msg="the global generator was disturbed")
    assert torch.equal(first.vector, second.vector)
    assert not torch.equal(first.vector, make_parameters(agent, (4,), "float32", 2, seed=4).vector)


def test_a_custom_network_in_float64() -> None:
    flat = make_parameters(
        Agent(network="tests.learning.custom:Tanh", dtype="float64"), (4,), "float32", 2, seed=0
    )
    flat.check()
    assert flat.dtype == torch.float64
    assert flat.size == 4 * 7 + 7 + 7 * 2 + 2


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("tests.learning.custom:OneValue", r"\[2, 3\].*it gave \[2, 1\]"),
        ("tests.learning.custom:NoModule", "made a NoModule, not a torch.nn.Module"),
        ("tests.learning.custom:NOT_CALLABLE", "no class but a int"),
        ("tests.learning.custom:Tan", "has no 'Tan'; did you mean 'Tanh'"),
        ("tests.learning.no_such_module:Net", "no module 'tests.learning.no_such_module'"),
        ("no_such_package.inside:Net", "no module 'no_such_package'"),
        ("mpl", "neither built in nor"),
    ],
)
def test_a_custom_network_that_cannot_be_used_is_refused(network: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_network(Agent(network=network), (4,), "float32", 3, seed=0)


@pytest.mark.parametrize(
    ("network", "shape", "words"),
    [
        ("nature_cnn", (84, 84), "channels, height, width"),
        ("nature_cnn", (4, 35, 84), "at least 36"),
        ("minatar_cnn", (10, 10), "channels, height, width"),
        ("minatar_cnn", (10, 10, 2), "at least 3"),
    ],
)
def test_observations_that_do_not_fit_are_refused(network: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_network(Agent(network=network), shape, "uint8", 3, seed=0)


def test_observations_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        make_network(Agent(), (4,), "complex64", 3, seed=0)
