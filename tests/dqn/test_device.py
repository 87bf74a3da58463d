"""Names of devices, on machines with and without CUDA."""

import pytest
import torch

from actorq.dqn.device import resolve_device


@pytest.fixture(params=[0, 1, 2])
def cuda_devices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    count: int = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    return count


def test_auto_prefers_cuda(cuda_devices: int) -> None:
    assert resolve_device("auto") == torch.device("cuda:0" if cuda_devices else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_device_the_machine_lacks_is_refused(cuda_devices: int) -> None:
    for index in range(3):
        name = f"cuda:{index}"
        if index < cuda_devices:
            assert resolve_device(name) == torch.device("cuda", index)
        else:
            with pytest.raises(ValueError, match="here"):
                resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "CPU", "", "cuda:0 "])
def test_names_that_are_no_device_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="'cuda:INDEX'"):
        resolve_device(name)
