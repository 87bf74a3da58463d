"""References to other actors: Ref (tell and ask), Group, Feed and Topic."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

from .errors import NotCarried
from .message import Message

M = TypeVar("M", bound=Message, contravariant=True)
M_co = TypeVar("M_co", bound=Message, covariant=True)
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class Asks(Protocol[M_co, R_co]):
    """Protocol of a request that is an `M` and has the reply `R`: type checkers refuse requests a port can't
    carry.
    """

    def _itself(self) -> M_co: ...
    def _reply(self) -> R_co: ...


class SendingChannel(Protocol):
    """What a ref needs of its channel to the receiver; see runtime/channel.py."""

    target: str

    def admit(self, message: Any) -> int: ...
    def must_wait(self, size: int) -> bool: ...
    async def wait_for_credit(
        self, message: type[Message], size: int, timeout: float | None = None
    ) -> bool: ...
    def send(self, message: Any, size: int) -> None: ...
    async def ask(self, request: Any, timeout: float | None, retry: bool = False) -> Any: ...
    async def ask_with(
        self, others: Sequence[Any], requests: Sequence[Any], timeout: float | None, retry: bool = False
    ) -> list[Any]: ...


class Ref(Generic[M]):
    """Reference to one actor, wherever it runs; valid across the actor's restarts."""

    __slots__ = ("_channel",)

    def __init__(self, channel: SendingChannel) -> None:
        self._channel = channel

    @property
    def name(self) -> str:
        return self._channel.target

    async def tell(self, message: M) -> None:
        """Send a message; wait while the channel to the receiver has no credit.

        Returning means accepted, not handled: see `Actor.on_undelivered`. Raises NotCarried for a type that
        the port does not carry, MessageTooLarge beyond the receiver's bound, CircularWait if waiting would
        close a circular wait. A tell that need not wait is no checkpoint. Cancelled while waiting, nothing
        was sent.
        """
        channel = self._channel
        size = channel.admit(message)
        if channel.must_wait(size):
            await channel.wait_for_credit(type(message), size)
        channel.send(message, size)

    async def ask(self, request: Asks[M, R], *, timeout: float | None = None, retry: bool = False) -> R:
        """Send a request and wait for its reply.

        Raises what `tell` raises; Refused if the receiver turned it down, Stopping if it did so because the
        run is stopping; ActorDied if it crashed over it or is gone; TimeoutError after `timeout` seconds.
        Cancelled or timed out, the request may still be handled; its reply is dropped.

        `retry`: after an ActorDied the receiver's next incarnation is asked: at once, after 0.1 s, then every
        second. Only for requests that may be handled twice; the timeout is one attempt's.
        """
        reply: R = await self._channel.ask(request, timeout, retry)
        return reply

    def __repr__(self) -> str:
        return f"<Ref to {self.name}>"


class Group(Generic[M]):
    """References to the members of an actor declared with a count, in order."""

    __slots__ = ("_next", "_refs")

    def __init__(self, refs: Sequence[Ref[M]]) -> None:
        self._refs = tuple(refs)
        self._next = 0

    def any(self) -> Ref[M]:
        """The members in round-robin order."""
        ref = self._refs[self._next % len(self._refs)]
        self._next += 1
        return ref

    def by(self, key: object) -> Ref[M]:
        """The same member for the same key, by the CRC-32 of its text, so in every process."""
        return self._refs[zlib.crc32(str(key).encode()) % len(self._refs)]

    def all(self) -> Everyone[M]:
        """All members at once."""
        return Everyone(self._refs)

    @overload
    def __getitem__(self, index: int) -> Ref[M]: ...
    @overload
    def __getitem__(self, index: slice) -> Group[M]: ...
    def __getitem__(self, index: int | slice) -> Ref[M] | Group[M]:
        return Group(self._refs[index]) if isinstance(index, slice) else self._refs[index]

    def __len__(self) -> int:
        return len(self._refs)

    def __iter__(self) -> Iterator[Ref[M]]:
        return iter(self._refs)


class Everyone(Generic[M]):
    """All members of a group, told or asked together (broadcast)."""

    __slots__ = ("_refs",)

    def __init__(self, refs: Sequence[Ref[M]]) -> None:
        self._refs = refs

    async def tell(self, message: M) -> None:
        """Tell each member, in order. Cancelled, the first members have it and the rest have not."""
        for ref in self._refs:
            await ref.tell(message)

    async def ask(self, request: Asks[M, R], *, timeout: float | None = None) -> list[R]:
        """Ask all members at once; replies in the members' order. The first failure is raised."""
        return await self.ask_each([request] * len(self._refs), timeout=timeout)

    async def ask_each(
        self, requests: Sequence[Asks[M, R]], *, timeout: float | None = None, retry: bool = False
    ) -> list[R]:
        """Ask each member its own of `requests`, one for each member; otherwise as `ask`.

        `retry`: if a member dies while it handles its request all are asked again, as in `Ref.ask`.
        """
        first, *others = (ref._channel for ref in self._refs)
        return await first.ask_with(others, requests, timeout, retry)


class Feed(Generic[M_co]):
    """Subscription to an actor that publishes `M`; this actor handles `M`."""

    __slots__ = ("publishers",)

    def __init__(self, publishers: tuple[str, ...]) -> None:
        self.publishers = publishers


class Topic(Generic[M]):
    """Publications of an actor, sent to every actor whose feed is wired to it."""

    __slots__ = ("_newest", "_refs")

    def __init__(self, refs: Mapping[type[Message], Sequence[Ref[M]]]) -> None:
        self._refs = refs
        """The subscribers of each message type."""
        self._newest: dict[type[Message], M] = {}

    async def publish(self, message: M) -> None:
        """Tell all subscribers. A `latest` message never waits; others wait for the slowest subscriber.

        Raises NotCarried for a type that the topic does not publish. Cancelled, the first subscribers have
        it and the rest have not.
        """
        kind = type(message)
        if kind not in self._refs:
            carried = ", ".join(known.__name__ for known in self._refs)
            raise NotCarried(f"this topic publishes {carried}, not {kind.__name__}")
        if message.delivery == "latest":
            self._newest[kind] = message
        for ref in self._refs[kind]:
            await ref.tell(message)

    async def repeat(self, subscriber: str) -> None:
        """Send the latest `latest` messages again to a subscriber that has restarted."""
        for kind, message in list(self._newest.items()):
            for ref in self._refs[kind]:
                if ref.name == subscriber:
                    await ref.tell(message)

    @property
    def subscribers(self) -> tuple[str, ...]:
        """The subscribers' names."""
        return tuple(dict.fromkeys(ref.name for refs in self._refs.values() for ref in refs))
