"""The actor model: messages, mailboxes, refs, supervision and the transport interface.

Knows nothing of learning: it would serve a chat server as well.
"""

from __future__ import annotations

from .actor import Actor, State
from .definition import Definition, Handler, Port, Table, handles
from .errors import (
    ActorDied,
    ActorFailed,
    ActorqError,
    CircularWait,
    DefinitionError,
    MessageTooLarge,
    NotCarried,
    Refused,
)
from .letter import DeadLetter, Enquiry, Letter, Origin, Outcome
from .message import Config, Message, Request, reply_type
from .ref import Feed, Group, Ref, Topic
from .reports import Reports, Tally
from .spec import (
    ActorSpec,
    GroupSpec,
    MailboxBounds,
    RestartLimits,
    RestartPolicy,
    Strategy,
    derive_seed,
)
from .statistics import ActorStatistics, LinkStatistics, MailboxStatistics, SystemStatistics
from .system import System
from .transport import Inbox, Transport, installed_transports, make_transport

__all__ = [
    "Actor",
    "ActorDied",
    "ActorFailed",
    "ActorSpec",
    "ActorStatistics",
    "ActorqError",
    "CircularWait",
    "Config",
    "DeadLetter",
    "Definition",
    "DefinitionError",
    "Enquiry",
    "Feed",
    "Group",
    "GroupSpec",
    "Handler",
    "Inbox",
    "Letter",
    "LinkStatistics",
    "MailboxBounds",
    "MailboxStatistics",
    "Message",
    "MessageTooLarge",
    "NotCarried",
    "Origin",
    "Outcome",
    "Port",
    "Ref",
    "Refused",
    "Reports",
    "Request",
    "RestartLimits",
    "RestartPolicy",
    "State",
    "Strategy",
    "System",
    "SystemStatistics",
    "Table",
    "Tally",
    "Topic",
    "Transport",
    "derive_seed",
    "handles",
    "installed_transports",
    "make_transport",
    "reply_type",
]
