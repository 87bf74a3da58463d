"""The one fixture through which every actor test runs: on each transport, on one node and on two."""

import pytest

from .world import TRANSPORTS, World


@pytest.fixture(params=[1, 2], ids=["one-node", "two-nodes"])
def nodes(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture(params=TRANSPORTS)
def world(request: pytest.FixtureRequest, nodes: int) -> World:
    return World(TRANSPORTS[request.param], nodes)
