"""All endpoints are in this process, which on a busy machine may be delayed for a while."""

import pytest

from actorq.actors.wire.session import acceptor, connector


@pytest.fixture(autouse=True)
def _no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is late with a hello or a welcome, but in the tests of just that."""
    monkeypatch.setattr(acceptor, "HELLO_SECONDS", 60.0)
    monkeypatch.setattr(connector, "STALL_SECONDS", 60.0)
