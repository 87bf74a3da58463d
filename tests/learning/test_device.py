"""Names of devices, on machines with and without CUDA."""

import pytest
import torch

from actorq.learning.device import resolve_device


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


@pytest.fixture
def nobody_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actorq.learning.device._users", {})


@pytest.mark.usefixtures("nobody_yet")
def test_auto_is_dealt_in_turn_and_stays_the_same_in_every_incarnation(cuda_devices: int) -> None:
    names = ["learner.0", "learner.1", "inference", "learner.2", "learner.1"]
    dealt = [resolve_device("auto", name) for name in names]
    turns = [0, 1, 2, 3, 1]
    cpu = torch.device("cpu")
    assert dealt == [torch.device("cuda", turn % cuda_devices) if cuda_devices else cpu for turn in turns]


@pytest.mark.usefixtures("nobody_yet")
def test_what_is_named_takes_no_turn(cuda_devices: int) -> None:
    resolve_device("cpu", "replay")
    if cuda_devices:
        resolve_device("cuda:0", "learner.0")
        assert resolve_device("auto", "learner.1") == torch.device("cuda:0")


@pytest.mark.usefixtures("nobody_yet")
def test_missing_cuda_is_logged_once(cuda_devices: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="actorq"):
        for user in ("learner", "inference", "learner"):
            resolve_device("auto", user)
        resolve_device("auto")
    assert len(caplog.records) == (0 if cuda_devices else 1)
