"""Fixture of all tests of roles: on a busy machine stopping may take its time."""

import pytest

from actorq.actors.runtime import system


@pytest.fixture(autouse=True)
def _time_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on its way is handled, and last states are there, however long an actor gets no processor."""
    monkeypatch.setattr(system, "DRAIN_SECONDS", 40.0)
    monkeypatch.setattr(system, "STOP_SECONDS", 50.0)
