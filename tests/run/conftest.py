"""Whole runs are tested on either back end inside either back end."""

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def inside(request: pytest.FixtureRequest) -> str:
    """The actors' event loop; `anyio_backend` is the application's."""
    backend: str = request.param
    return backend
