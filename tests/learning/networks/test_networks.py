"""The Q-networks: shapes, layers, initial weights, and what does not fit is refused."""

import pytest
import torch
from torch import nn

from actorq.learning.agent import Agent
from actorq.learning.networks.factory import make_network, make_parameters
from actorq.learning.networks.networks import MLP, MinAtarCNN, NatureCNN
from actorq.learning.networks.spec import mlp_shapes

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
    made = make_network(Agent(network=network, dueling=dueling), shape, dtype, 5, seed=0)
    q_values = made(torch.rand(2, *shape))
    assert q_values.shape == (2, 5)
    assert (q_values[0] != q_values[1]).all()


def test_sizes_are_the_papers() -> None:
    nature = NatureCNN((4, 84, 84), (512,), 18)
    assert parameters(nature) == 8224 + 32832 + 36928 + 3136 * 512 + 512 + 512 * 18 + 18
    minatar = MinAtarCNN((4, 10, 10), (128,), 6)
    assert parameters(minatar) == 16 * 4 * 9 + 16 + 1024 * 128 + 128 + 128 * 6 + 6


def test_minatar_takes_frames_as_the_environments_give_them() -> None:
    """Whatever side of an observation its channels are on, `Environments` puts them first."""
    network = MinAtarCNN((4, 10, 9), (8,), 2)
    first = network.head.hidden[0]
    assert isinstance(first, nn.Linear)
    assert (network.convolution.in_channels, first.in_features) == (4, 16 * 8 * 7)
    assert network(torch.zeros(1, 4, 10, 9)).shape == (1, 2)


def test_dueling_advantages_are_relative_to_their_mean() -> None:
    network = MLP(3, (8, 6), 4, dueling=True)
    x = torch.rand(5, 3)
    hidden = network.hidden[1](network.hidden[0](x).relu()).relu()
    value, advantage = network.value(hidden[:, :6]), network.advantage(hidden[:, 6:])
    torch.testing.assert_close(network(x).mean(1, keepdim=True), value)
    torch.testing.assert_close(network(x) - value, advantage - advantage.mean(1, keepdim=True))


@pytest.mark.parametrize(
    ("hidden", "dueling"), [((), False), ((7,), False), ((7,), True), ((7, 5), True), ((3, 4, 5), True)]
)
def test_the_layout_without_torch_is_the_networks(hidden: tuple[int, ...], dueling: bool) -> None:
    agent = Agent(hidden=hidden, dueling=dueling)
    network = make_network(agent, (2, 3), "float32", 4, seed=0)
    assert [tuple(p.shape) for _, p in network.named_parameters()] == mlp_shapes(agent, 6, 4)


def test_a_linear_q_on_one_hot_observations_is_a_table() -> None:
    network = make_network(Agent(hidden=()), (6,), "float32", 3, seed=0)
    assert isinstance(network, MLP)
    table = network.output.weight.T + network.output.bias
    torch.testing.assert_close(network(torch.eye(6)), table)


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
