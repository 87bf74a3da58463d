"""Nodes are processes here, and on a busy machine any of them may be delayed for a while."""

import pytest

from actorq.actors.runtime import system


@pytest.fixture(autouse=True)
def _time_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers late when the run stops is not given up: but for the tests of just that."""
    monkeypatch.setattr(system, "STOP_SECONDS", 20.0)
