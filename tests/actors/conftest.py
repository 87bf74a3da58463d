"""The fixture through which every actor test runs: each transport, one node and two, asyncio and trio.

`make test` runs a pairwise set of six of the sixteen worlds, `make test-all` all of them.
"""

import pytest

from actorq.actors.runtime import system

from .world import TRANSPORTS, World

PAIRWISE = {  # (transport, nodes, back end): pairs of values, nng by two nodes only
    ("inproc", 1, "asyncio"),
    ("inproc", 2, "trio"),
    ("encoded", 1, "trio"),
    ("encoded", 2, "asyncio"),
    ("nng-ipc", 2, "trio"),
    ("nng-tcp", 2, "asyncio"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the worlds outside of the pairwise set as slow."""
    for item in items:
        values = (
            item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        )
        world = tuple(values.get(name) for name in ("world", "nodes", "anyio_backend"))
        if None not in world and world not in PAIRWISE:
            item.add_marker(pytest.mark.slow)


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
