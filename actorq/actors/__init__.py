"""The actor model: messages, mailboxes, refs, supervision and the transport interface.

Knows nothing of learning: it would serve a chat server as well.
"""

from __future__ import annotations

from actorq.actors.runtime.inbox import Inbox
from actorq.actors.wire.node_incarnation import new_incarnation

from .actor import Actor, State
from .definition import Definition, Handler, Port, Table, handles
from .errors import (
    ActorDied,
    ActorFailed,
    ActorqError,
    CircularWait,
    DefinitionError,
    Fatal,
    MessageTooLarge,
    NodeFailed,
    NotCarried,
    Refused,
    Stopping,
)
from .message import Config, Message, Request, reply_type
from .ref import Feed, Group, Ref, Topic
from .runtime.envelope import DeadLetter, Envelope, Outcome, ReplyPath, RequestEnvelope
from .runtime.reports import Reports, ReportTotals
from .runtime.system import System
from .spec import (
    MAIN,
    OUTSIDE,
    ActorSpec,
    GroupSpec,
    MailboxBounds,
    RestartLimits,
    RestartPolicy,
    Strategy,
    derive_seed,
)
from .statistics import (
    ActorStatistics,
    ChannelStatistics,
    MailboxStatistics,
    SystemStatistics,
    TransportStatistics,
)
from .supervision.delivery_log import DeliveryLog, LogLayout
from .supervision.node_agent import NodeAgent
from .supervision.remote_node import Death, Launcher, NodeDied, NodeHandle
from .wire.link_schema import LinkSchema
from .wire.peer_session import PeerSession, SharedMemory
from .wire.registry import WireError
from .wire.transport import (
    Membership,
    Peer,
    Stream,
    Transport,
    find_transport,
    installed_transports,
    make_transport,
    this_host,
)

__all__ = [
    "MAIN",
    "OUTSIDE",
    "Actor",
    "ActorDied",
    "ActorFailed",
    "ActorSpec",
    "ActorStatistics",
    "ActorqError",
    "ChannelStatistics",
    "CircularWait",
    "Config",
    "DeadLetter",
    "Death",
    "Definition",
    "DefinitionError",
    "DeliveryLog",
    "Envelope",
    "Fatal",
    "Feed",
    "Group",
    "GroupSpec",
    "Handler",
    "Inbox",
    "Launcher",
    "LinkSchema",
    "LogLayout",
    "MailboxBounds",
    "MailboxStatistics",
    "Membership",
    "Message",
    "MessageTooLarge",
    "NodeAgent",
    "NodeDied",
    "NodeFailed",
    "NodeHandle",
    "NotCarried",
    "Outcome",
    "Peer",
    "PeerSession",
    "Port",
    "Ref",
    "Refused",
    "ReplyPath",
    "ReportTotals",
    "Reports",
    "Request",
    "RequestEnvelope",
    "RestartLimits",
    "RestartPolicy",
    "SharedMemory",
    "State",
    "Stopping",
    "Strategy",
    "Stream",
    "System",
    "SystemStatistics",
    "Table",
    "Topic",
    "Transport",
    "TransportStatistics",
    "WireError",
    "derive_seed",
    "find_transport",
    "handles",
    "installed_transports",
    "make_transport",
    "new_incarnation",
    "reply_type",
    "this_host",
]
