"""The one fixture through which every actor test runs: on each transport, on one node and on two."""

import pytest

from actorq.actors.runtime import system

from .world import TRANSPORTS, World


@pytest.fixture(params=[1, 2], ids=["one-node", "two-nodes"])
def nodes(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture(params=TRANSPORTS)
def world(request: pytest.FixtureRequest, nodes: int, monkeypatch: pytest.MonkeyPatch) -> World:
    """Its clock is the machine's, which may be starved: stopping takes as long as it takes."""
    monkeypatch.setattr(system, "DRAIN_SECONDS", 40.0)
    monkeypatch.setattr(system, "STOP_SECONDS", 50.0)
    return World(TRANSPORTS[request.param], nodes)
