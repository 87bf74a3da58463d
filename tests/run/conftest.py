"""Whole runs are tested on either back end inside either back end."""

import pytest

from actorq.actors.runtime import system
from actorq.run import run


@pytest.fixture(params=["asyncio", "trio"])
def inside(request: pytest.FixtureRequest) -> str:
    """The actors' event loop; `anyio_backend` is the application's."""
    backend: str = request.param
    return backend


@pytest.fixture(autouse=True)
def _time_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that gets no processor for a second is not given up, and its last states are there."""
    monkeypatch.setattr(system, "STOP_SECONDS", 20.0)


@pytest.fixture(autouse=True)
def _empty_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's report is left empty: its charts take longer than these runs. Runs of recipes draw theirs."""
    monkeypatch.setattr(run, "write_report", lambda folder: folder.report.touch())
