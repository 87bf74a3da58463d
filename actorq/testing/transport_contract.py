"""Conformance kit for transports: what `Transport` promises, as checks that any test runner can call.

    @pytest.mark.anyio
    @pytest.mark.parametrize("check", CHECKS)
    async def test_my_transport(check):
        await check(MyTransport)

Each check takes a factory of transports, runs a system of two nodes over one of them, and raises
AssertionError for what it doesn't keep. Run them under asyncio and trio. None takes longer than some seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import numpy as np
from numpy.typing import NDArray

from actorq.actors import (
    Actor,
    ActorDied,
    ActorSpec,
    Membership,
    Message,
    Ref,
    Refused,
    Request,
    System,
    Transport,
    handles,
)
from actorq.actors.wire.session.session_transport import SessionTransport

TIMEOUT_SECONDS = 30.0

MakeTransport = Callable[[], Transport]


class ContractNumber(Message):
    number: int


class ContractNumbers(Message):
    numbers: list[int]


class GetContractNumbers(Request[ContractNumbers]):
    pass


class ContractArray(Message):
    data: NDArray[np.float32]


class DoubleArray(Request[ContractArray]):
    data: NDArray[np.float32]


class RefuseMe(Request[ContractNumbers]):
    pass


class CrashMe(Request[ContractNumbers]):
    pass


class SendNumbers(Request[ContractNumbers]):
    count: int


class ContractReceiver(Actor):
    """Records numbers, doubles arrays, refuses and crashes on request."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    @handles
    async def keep(self, message: ContractNumber) -> None:
        self.numbers.append(message.number)

    @handles
    async def kept(self, request: GetContractNumbers) -> ContractNumbers:
        return ContractNumbers(self.numbers)

    @handles
    async def double(self, request: DoubleArray) -> ContractArray:
        if request.data.flags.writeable:
            raise Refused("the array is writable: sender and receiver would share changes")
        return ContractArray(2 * request.data)

    @handles
    async def refuse(self, request: RefuseMe) -> ContractNumbers:
        raise Refused("as asked")

    @handles
    async def crash(self, request: CrashMe) -> ContractNumbers:
        raise RuntimeError("as asked")


class ContractSender(Actor):
    """Tells the receiver numbers, then asks for those it has received."""

    receiver: Ref[ContractNumber | GetContractNumbers]

    @handles
    async def send(self, request: SendNumbers) -> ContractNumbers:
        for number in range(request.count):
            await self.receiver.tell(ContractNumber(number))
        return await self.receiver.ask(GetContractNumbers())


def contract_system(transport: Transport) -> System:
    """A system with a sender on one node and a receiver on another."""
    specs = [
        ActorSpec(name="receiver", cls=ContractReceiver, node="far"),
        ActorSpec(name="sender", cls=ContractSender, node="near", ports={"receiver": ("receiver",)}),
    ]
    listen = ("tcp://127.0.0.1:0",) if transport.crosses_processes else ()
    return System(specs, transport=transport, membership=Membership(addresses=listen))


async def check_messages_arrive_once_and_in_order(make: MakeTransport) -> None:
    with anyio.fail_after(TIMEOUT_SECONDS):
        async with contract_system(make()) as system:
            reply = await system.ref("sender").ask(SendNumbers(1000))
            assert reply.numbers == list(range(1000)), f"{len(reply.numbers)} of 1000, or another order"


async def check_arrays_of_any_size(make: MakeTransport) -> None:
    """Arrays of up to four megabytes arrive complete and read-only."""
    with anyio.fail_after(TIMEOUT_SECONDS):
        async with contract_system(make()) as system:
            for size in (0, 1, 1000, 1 << 20):
                sent = np.arange(size, dtype=np.float32)
                reply = await system.ref("receiver").ask(DoubleArray(sent))
                assert np.array_equal(reply.data, 2 * sent), f"an array of {size} elements was changed"


async def check_refusals_and_crashes_reach_the_asker(make: MakeTransport) -> None:
    with anyio.fail_after(TIMEOUT_SECONDS):
        async with contract_system(make()) as system:
            receiver = system.ref("receiver")
            for request, expected in ((RefuseMe(), Refused), (CrashMe(), ActorDied)):
                got: object
                try:
                    got = await receiver.ask(request)
                except (Refused, ActorDied) as error:
                    got = error
                assert isinstance(got, expected), f"{type(request).__name__} led to {got!r}"
                assert "as asked" in str(got), f"{got!r} lacks its reason"


async def check_lost_connections_lose_nothing(make: MakeTransport) -> None:
    """For transports with sessions: connections are cut while messages are in flight."""
    transport = make()
    if not isinstance(transport, SessionTransport):
        return
    with anyio.fail_after(TIMEOUT_SECONDS):
        async with contract_system(transport) as system, anyio.create_task_group() as tasks:

            async def cut() -> None:
                for _ in range(5):
                    await anyio.sleep(0.02)
                    transport.cut()

            tasks.start_soon(cut)
            reply = await system.ref("sender").ask(SendNumbers(3000))
            assert reply.numbers == list(range(3000)), f"{len(reply.numbers)} of 3000, or another order"


async def check_it_closes_when_cancelled(make: MakeTransport) -> None:
    """A run that is cancelled while it works leaves no task behind, and another can start at once."""
    for _ in range(2):
        with anyio.move_on_after(TIMEOUT_SECONDS) as scope:
            async with contract_system(make()) as system:
                await system.ref("sender").tell(SendNumbers(10))
                scope.cancel()
                await anyio.sleep_forever()


CHECKS: tuple[Callable[[MakeTransport], Awaitable[None]], ...] = (
    check_messages_arrive_once_and_in_order,
    check_arrays_of_any_size,
    check_refusals_and_crashes_reach_the_asker,
    check_lost_connections_lose_nothing,
    check_it_closes_when_cancelled,
)
"""All checks."""
