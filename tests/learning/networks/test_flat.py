"""Parameters as views into one vector: kept, proved, and what breaks them."""

import numpy as np
import pytest
import torch
from torch import nn

from actorq.learning.networks.flat import BrokenViews, FlatParameters


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flattening_changes_no_number(dtype: torch.dtype) -> None:
    before = [parameter.detach().clone() for parameter in network().parameters()]
    flat = FlatParameters(network(), dtype)
    flat.check()
    assert flat.dtype == dtype
    assert flat.size == 3 * 4 + 4 + 4 * 2 + 2
    for parameter, expected in zip(flat.module.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), expected.to(dtype), rtol=0, atol=0)
    np.testing.assert_array_equal(flat.read(), torch.cat([p.flatten() for p in before]).numpy())


def test_the_vector_and_the_module_are_one() -> None:
    flat = FlatParameters(network())
    flat.write(np.arange(flat.size, dtype=np.float64))
    assert flat.module[0].weight[1, 0] == 3.0  # type: ignore[index]
    copied = flat.read()
    flat.vector.zero_()
    assert copied[1] == 1.0, "read gives a copy"
    assert not any(parameter.any() for parameter in flat.module.parameters())


def test_read_only_arrays_are_taken() -> None:
    flat = FlatParameters(network())
    vector = np.ones(flat.size, np.float32)
    vector.flags.writeable = False
    flat.write(vector)
    assert (flat.read() == 1.0).all()


def test_a_vector_of_another_size_is_refused() -> None:
    flat = FlatParameters(network())
    before = flat.read()
    with pytest.raises(ValueError, match=r"\[26\]"):
        flat.write(np.zeros(25, np.float32))
    np.testing.assert_array_equal(flat.read(), before)


def test_autograd_adds_into_the_gradient_vector() -> None:
    flat = FlatParameters(network())
    flat.module(torch.ones(5, 3)).sum().backward()
    flat.check()
    assert flat.gradient[-2:].tolist() == [5.0, 5.0]


def double(flat: FlatParameters) -> None:
    flat.module.double()


def assign(flat: FlatParameters) -> None:
    flat.module.load_state_dict(network().state_dict(), assign=True)


def drop_gradients(flat: FlatParameters) -> None:
    flat.module.zero_grad(set_to_none=True)


def replace_data(flat: FlatParameters) -> None:
    flat.module[2].bias.data = torch.zeros(2)  # type: ignore[index]


def add_a_layer(flat: FlatParameters) -> None:
    flat.module.append(nn.Linear(2, 2))  # type: ignore[operator]


@pytest.mark.parametrize("breaking", [double, assign, drop_gradients, replace_data, add_a_layer])
def test_check_finds_broken_views(breaking: object) -> None:
    flat = FlatParameters(network())
    breaking(flat)  # type: ignore[operator]
    with pytest.raises(BrokenViews):
        flat.check()


def test_a_plain_load_state_dict_keeps_the_views() -> None:
    flat = FlatParameters(network())
    state = {name: torch.ones_like(value) for name, value in flat.module.state_dict().items()}
    flat.module.load_state_dict(state)
    flat.check()
    assert (flat.read() == 1.0).all()


def test_tied_parameters_are_kept_once() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    flat = FlatParameters(module)
    flat.check()
    assert flat.size == 9 + 3 + 3


def test_running_statistics_are_refused_and_constants_are_not() -> None:
    with pytest.raises(ValueError, match=r"1\.running_mean"):
        FlatParameters(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    module = nn.Linear(3, 3)
    module.register_buffer("scale", torch.ones(3), persistent=False)
    FlatParameters(module).check()


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameters"):
        FlatParameters(nn.ReLU())
