"""What the leader of a run tells a node in another process, and what that node tells back."""

from __future__ import annotations

from typing import Any

import msgspec

from actorq.actors.histogram import Distribution
from actorq.actors.statistics import ActorStatistics, TransportStatistics
from actorq.actors.wire.transport import Peer


class Order(msgspec.Struct, frozen=True, tag=True):
    """From the leader."""


class Meet(Order, frozen=True, tag=True):
    """These nodes can be reached."""

    peers: tuple[Peer, ...]


class Part(Order, frozen=True, tag=True):
    """A node has died. `page` is its ledger."""

    node: str
    page: bytes | None
    reason: str
    for_good: bool = False


class Follow(Order, frozen=True, tag=True):
    """What is sent to these actors waits until their turn to start has come, after others of `members`."""

    actors: tuple[str, ...]
    members: tuple[str, ...]


class Start(Order, frozen=True, tag=True):
    """Begin a life. Answered by Up, or by Ended."""

    actor: str
    begun: bool
    """Whether its own loop begins at once."""
    restarts: int
    snapshot: dict[str, Any] | None = None
    """None: the last one that the node itself has taken."""


class Begin(Order, frozen=True, tag=True):
    """All actors have started: begin their own loops."""


class StopRuns(Order, frozen=True, tag=True):
    """Cancel the actors' own loops."""


class Halt(Order, frozen=True, tag=True):
    """End this actor's life in order. Answered by Ended."""

    actor: str


class Kill(Order, frozen=True, tag=True):
    """End it at once."""

    actor: str


class Bury(Order, frozen=True, tag=True):
    """Nobody will take this actor's place again."""

    actor: str
    reason: str


class Answer(Order, frozen=True, tag=True):
    """Answer at once, by Done."""

    number: int


class AwaitQuiet(Order, frozen=True, tag=True):
    """Answer, by Done with a count of all that has happened, when nothing is at hand or on its way."""

    number: int


class TakeState(Order, frozen=True, tag=True):
    """Answered by a Snapshot, taken between two handlers, if the actor has any state; and by Done."""

    number: int
    actor: str
    busy: bool
    """Whether to wait for an actor that is at a message, or take its last snapshot."""


class Repeat(Order, frozen=True, tag=True):
    """Send the newest of what this actor publishes to a subscriber that has started anew."""

    actor: str
    subscriber: str


class Leave(Order, frozen=True, tag=True):
    """The run is over: end the process."""


class Tiding(msgspec.Struct, frozen=True, tag=True):
    """From a node."""


class Listening(Tiding, frozen=True, tag=True):
    """The node is ready, and can be reached there."""

    peer: Peer


class Up(Tiding, frozen=True, tag=True):
    """An actor has started."""

    actor: str


class Ended(Tiding, frozen=True, tag=True):
    """An actor's life is over; by a crash, if there is one."""

    actor: str
    told_to_end: bool
    crash: CrashText | None = None


class CrashText(msgspec.Struct, frozen=True):
    """A crash as text: an error can't fail to travel."""

    doing: str
    message: str
    """The type of the message at hand, or nothing."""
    error: str
    """The error's type and text."""
    traceback: str
    fatal: bool = False


class Done(Tiding, frozen=True, tag=True):
    """The answer to an order with a number."""

    number: int
    value: Any = None


class Counted(Tiding, frozen=True, tag=True):
    """An actor has made progress."""

    actor: str
    name: str
    amount: int


class Gauged(Tiding, frozen=True, tag=True):
    """An actor has reported a reading."""

    actor: str
    name: str
    value: float


class Observed(Tiding, frozen=True, tag=True):
    """What an actor has observed since the last tiding of this name."""

    actor: str
    name: str
    distribution: Distribution


class Snapshot(Tiding, frozen=True, tag=True):
    """An actor's state, for its successor."""

    actor: str
    state: dict[str, Any]


class Readings(Tiding, frozen=True, tag=True):
    """The state of the node's actors, now and then."""

    actors: tuple[ActorStatistics, ...]
    undelivered: int
    in_doubt: int
    transport: TransportStatistics


Orders = (
    Meet
    | Part
    | Follow
    | Start
    | Begin
    | StopRuns
    | Halt
    | Kill
    | Bury
    | Answer
    | AwaitQuiet
    | TakeState
    | Repeat
    | Leave
)
Tidings = Listening | Up | Ended | Done | Counted | Gauged | Observed | Snapshot | Readings
