"""Exceptions of the actor model."""

from __future__ import annotations


class ActorqError(Exception):
    """Base of the errors that actorq itself raises."""


class DefinitionError(ActorqError, TypeError):
    """A message or actor class that can't work; raised when the class is made."""


class Refused(ActorqError):
    """Raised in a handler to refuse one message: the asker gets it, and the actor continues.

    Any other exception that leaves a handler is a crash.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stopping(Refused):
    """A request refused because the run is stopping: not an error, and not to be retried.

    Raised in a handler by an actor that is draining; the asker gets a `Stopping` too, in any process.
    """

    def __init__(self, reason: str = "the run is stopping") -> None:
        super().__init__(reason)


class Fatal(ActorqError):
    """Raised by an actor that must not be restarted: the run stops and fails with this error as its cause."""


class ActorDied(ActorqError):
    """The asked actor crashed while handling the request, or will never answer it."""


class CircularWait(ActorqError):
    """This wait would close a circular wait (deadlock); the text names the actors."""


class MessageTooLarge(ActorqError, ValueError):
    """A message is larger than the receiver's mailbox bound."""


class NotCarried(ActorqError, TypeError):
    """A message type that this port does not carry."""


class ActorFailed(ActorqError):
    """An actor crashed past its restart limit; the actor's own error is the cause."""

    def __init__(self, actor: str, reason: str) -> None:
        super().__init__(f"actor {actor!r} {reason}")
        self.actor = actor


class NodeFailed(ActorFailed):
    """A node could not be launched, or died past its restart limit."""

    def __init__(self, node: str, reason: str) -> None:
        ActorqError.__init__(self, f"node {node!r} {reason}")
        self.actor = ""
        self.node = node
