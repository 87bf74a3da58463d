"""The transport contract, over each transport of this repository."""

from __future__ import annotations

from typing import Any

import pytest

from actorq.actors import ActorqError
from actorq.actors.wire.session.session_transport import SessionTransport
from actorq.testing import EncodedTransport
from actorq.testing.socket_transport import SocketTransport
from actorq.testing.transport_contract import CHECKS
from actorq_inproc import InprocTransport
from actorq_nng import NngTransport
from tests.transports.nng.ends import End

pytestmark = pytest.mark.anyio

TRANSPORTS: dict[str, Any] = {
    "inproc": InprocTransport,
    "encoded": EncodedTransport,
    "nng-ipc": NngTransport,
    "nng-tcp": lambda: NngTransport(ipc=False),
    "socket-ipc": SocketTransport,
    "socket-tcp": lambda: SocketTransport(ipc=False),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_contract(check: Any, transport: str) -> None:
    make = TRANSPORTS[transport]
    if check.__name__ == "check_lost_connections_lose_nothing" and not isinstance(make(), SessionTransport):
        return
    await check(make)


@pytest.mark.parametrize("address", ["tls+tcp://127.0.0.1:0", "nowhere", "ipc:///nowhere/at/all"])
async def test_a_plain_socket_refuses_other_addresses(address: str) -> None:
    wire = SocketTransport().make_wire(End("b").endpoint._acceptor, 1000, None)
    with pytest.raises(ActorqError):
        wire.listen(address)
