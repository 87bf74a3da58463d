"""Control messages: commands from the coordinator to the agent of a node, and node events in return."""

from __future__ import annotations

import msgspec

from actorq.actors.histogram import Distribution
from actorq.actors.statistics import ActorStatistics, TransportStatistics
from actorq.actors.wire.state_codec import StateValue
from actorq.actors.wire.transport import Peer


class Command(msgspec.Struct, frozen=True, tag=True):
    """A command from the coordinator."""


class PeerUp(Command, frozen=True, tag=True):
    """Connect to these nodes."""

    peers: tuple[Peer, ...]


class PeerDown(Command, frozen=True, tag=True):
    """A node has died; `page` is its delivery log."""

    node: str
    page: bytes | None
    reason: str
    for_good: bool = False


class ActorsDown(Command, frozen=True, tag=True):
    """Notify the watchers of actors that were lost with a node, or that have retired."""

    ended: dict[str, int]
    """Each actor's last incarnation."""


class AwaitStartOrder(Command, frozen=True, tag=True):
    """Hold messages to `actors` until their start completes, after others of `members`."""

    actors: tuple[str, ...]
    members: tuple[str, ...]


class Start(Command, frozen=True, tag=True):
    """Start an incarnation. Answered by Up or ActorEnded."""

    actor: str
    begun: bool
    """Whether the actor's own loop starts at once."""
    restarts: int
    snapshot: StateValue | None = None
    """None: use the last snapshot taken by the node itself."""


class Begin(Command, frozen=True, tag=True):
    """All actors have started: start their own loops."""


class StopRuns(Command, frozen=True, tag=True):
    """Cancel the actors' own loops."""


class HaltActor(Command, frozen=True, tag=True):
    """Stop this actor in order. Answered by ActorEnded."""

    actor: str


class Kill(Command, frozen=True, tag=True):
    """End this actor at once."""

    actor: str


class Retire(Command, frozen=True, tag=True):
    """Retire this actor: it is never started again."""

    actor: str
    reason: str


class Answer(Command, frozen=True, tag=True):
    """Health check, answered at once by Done."""

    number: int


class AwaitQuiet(Command, frozen=True, tag=True):
    """Answered by Done with the count of all messages, once none is in progress or in transit."""

    number: int


class TakeState(Command, frozen=True, tag=True):
    """Answered by SnapshotTaken, between two handlers, if the actor has a state; then by Done."""

    number: int
    actor: str
    busy: bool
    """Whether to wait for a message in progress; otherwise the last snapshot is sent."""


class Repeat(Command, frozen=True, tag=True):
    """Send the latest messages that this actor has published to a subscriber that has restarted."""

    actor: str
    subscriber: str


class LeaveRun(Command, frozen=True, tag=True):
    """The run is over: end the process."""


class NodeEvent(msgspec.Struct, frozen=True, tag=True):
    """An event reported by a node agent."""


class Listening(NodeEvent, frozen=True, tag=True):
    """The node is ready, at this address."""

    peer: Peer


class Up(NodeEvent, frozen=True, tag=True):
    """An actor has started."""

    actor: str


class ActorEnded(NodeEvent, frozen=True, tag=True):
    """An actor's incarnation has ended; with `crash` if by an error."""

    actor: str
    told_to_end: bool
    crash: CrashText | None = None


class CrashText(msgspec.Struct, frozen=True):
    """A crash as text, so that any error can be sent."""

    doing: str
    message: str
    """Type of the message in progress; empty if none."""
    error: str
    """Type and text of the error."""
    traceback: str
    fatal: bool = False


class Done(NodeEvent, frozen=True, tag=True):
    """Reply to a numbered command."""

    number: int
    value: int = 0


class Counted(NodeEvent, frozen=True, tag=True):
    """An actor has made progress."""

    actor: str
    name: str
    amount: int


class Gauged(NodeEvent, frozen=True, tag=True):
    """An actor has reported a gauge."""

    actor: str
    name: str
    value: float


class Observed(NodeEvent, frozen=True, tag=True):
    """Distribution of the values an actor has observed since its last event of this name."""

    actor: str
    name: str
    distribution: Distribution


class SnapshotTaken(NodeEvent, frozen=True, tag=True):
    """An actor's state, for its next incarnation."""

    actor: str
    state: StateValue


class Readings(NodeEvent, frozen=True, tag=True):
    """Periodic statistics of the node's actors."""

    actors: tuple[ActorStatistics, ...]
    undelivered: int
    in_doubt: int
    transport: TransportStatistics


Commands = (
    PeerUp
    | PeerDown
    | ActorsDown
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
