"""Fixtures of the whole suite."""

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop under a test marked `anyio`: each such test runs once on either."""
    backend: str = request.param
    return backend
