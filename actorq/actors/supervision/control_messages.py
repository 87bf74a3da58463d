"""What the coordinator of a run tells a node in another process, and what that node tells back."""

from __future__ import annotations

from typing import Any

import msgspec

from actorq.actors.histogram import Distribution
from actorq.actors.statistics import ActorStatistics, TransportStatistics
from actorq.actors.wire.transport import Peer


class Command(msgspec.Struct, frozen=True, tag=True):
    """From the coordinator."""


class PeerUp(Command, frozen=True, tag=True):
    """These nodes can be reached."""

    peers: tuple[Peer, ...]


class PeerDown(Command, frozen=True, tag=True):
    """A node has died. `page` is its delivery log."""

    node: str
    page: bytes | None
    reason: str
    for_good: bool = False


class AwaitStartOrder(Command, frozen=True, tag=True):
    """What is sent to these actors waits until their turn to start has come, after others of `members`."""

    actors: tuple[str, ...]
    members: tuple[str, ...]


class Start(Command, frozen=True, tag=True):
    """Begin a life. Answered by Up, or by Ended."""

    actor: str
    begun: bool
    """Whether its own loop begins at once."""
    restarts: int
    snapshot: dict[str, Any] | None = None
    """None: the last one that the node itself has taken."""


class Begin(Command, frozen=True, tag=True):
    """All actors have started: begin their own loops."""


class StopRuns(Command, frozen=True, tag=True):
    """Cancel the actors' own loops."""


class HaltActor(Command, frozen=True, tag=True):
    """End this actor's life in order. Answered by Ended."""

    actor: str


class Kill(Command, frozen=True, tag=True):
    """End it at once."""

    actor: str


class Retire(Command, frozen=True, tag=True):
    """Nobody will take this actor's place again."""

    actor: str
    reason: str


class Answer(Command, frozen=True, tag=True):
    """Answer at once, by Done."""

    number: int


class AwaitQuiet(Command, frozen=True, tag=True):
    """Answer, by Done with a count of all that has happened, when nothing is in progress or on its way."""

    number: int


class TakeState(Command, frozen=True, tag=True):
    """Answered by a Snapshot, taken between two handlers, if the actor has any state; and by Done."""

    number: int
    actor: str
    busy: bool
    """Whether to wait for an actor that is at a message, or take its last snapshot."""


class Repeat(Command, frozen=True, tag=True):
    """Send the newest of what this actor publishes to a subscriber that has started anew."""

    actor: str
    subscriber: str


class LeaveRun(Command, frozen=True, tag=True):
    """The run is over: end the process."""


class NodeEvent(msgspec.Struct, frozen=True, tag=True):
    """From a node."""


class Listening(NodeEvent, frozen=True, tag=True):
    """The node is ready, and can be reached there."""

    peer: Peer


class Up(NodeEvent, frozen=True, tag=True):
    """An actor has started."""

    actor: str


class ActorEnded(NodeEvent, frozen=True, tag=True):
    """An actor's life is over; by a crash, if there is one."""

    actor: str
    told_to_end: bool
    crash: CrashText | None = None


class CrashText(msgspec.Struct, frozen=True):
    """A crash as text: an error can't fail to travel."""

    doing: str
    message: str
    """The type of the message in progress, or nothing."""
    error: str
    """The error's type and text."""
    traceback: str
    fatal: bool = False


class Done(NodeEvent, frozen=True, tag=True):
    """The answer to an order with a number."""

    number: int
    value: Any = None


class Counted(NodeEvent, frozen=True, tag=True):
    """An actor has made progress."""

    actor: str
    name: str
    amount: int


class Gauged(NodeEvent, frozen=True, tag=True):
    """An actor has reported a reading."""

    actor: str
    name: str
    value: float


class Observed(NodeEvent, frozen=True, tag=True):
    """What an actor has observed since the last node events of this name."""

    actor: str
    name: str
    distribution: Distribution


class SnapshotTaken(NodeEvent, frozen=True, tag=True):
    """An actor's state, for its successor."""

    actor: str
    state: dict[str, Any]


class Readings(NodeEvent, frozen=True, tag=True):
    """The state of the node's actors, now and then."""

    actors: tuple[ActorStatistics, ...]
    undelivered: int
    in_doubt: int
    transport: TransportStatistics


Commands = (
    PeerUp
    | PeerDown
    | AwaitStartOrder
    | Start
    | Begin
    | StopRuns
    | HaltActor
    | Kill
    | Retire
    | Answer
    | AwaitQuiet
    | TakeState
    | Repeat
    | LeaveRun
)
NodeEvents = Listening | Up | ActorEnded | Done | Counted | Gauged | Observed | SnapshotTaken | Readings
