"""The actor model: messages, mailboxes, refs, supervision and the transport interface.

Knows nothing of learning: it would serve a chat server as well.
"""

from __future__ import annotations

from actorq.actors.runtime.inbox import Inbox

from .actor import Actor, SettingProblem, State
from .definition import Definition, Table, handles
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
from .message import Config, Message, Request
from .ref import Feed, Group, Ref, Topic
from .runtime.envelope import DeadLetter, Outcome
from .runtime.reports import Reports
from .runtime.system import System
from .spec import ActorSpec, GroupSpec, MailboxBounds, RestartLimits, RestartPolicy, Strategy
from .statistics import (
    ActorStatistics,
    ChannelStatistics,
    MailboxStatistics,
    SystemStatistics,
    TransportStatistics,
)
from .supervision.delivery_log import DeliveryLog, LogLayout
from .supervision.node_agent import NodeAgent
from .supervision.remote_node import Death, NodeDied, NodeHandle
from .wire.link_schema import LinkSchema
from .wire.peer_session import PeerSession
from .wire.transport import Membership, Peer, Transport, find_transport

__all__ = [
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
    "Fatal",
    "Feed",
    "Group",
    "GroupSpec",
    "Inbox",
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
    "Ref",
    "Refused",
    "Reports",
    "Request",
    "RestartLimits",
    "RestartPolicy",
    "SettingProblem",
    "State",
    "Stopping",
    "Strategy",
    "System",
    "SystemStatistics",
    "Table",
    "Topic",
    "Transport",
    "TransportStatistics",
    "find_transport",
    "handles",
]
