"""What can go wrong between actors, as exceptions."""

from __future__ import annotations


class ActorqError(Exception):
    """Base of the errors that actorq itself raises."""


class DefinitionError(ActorqError, TypeError):
    """A message or actor class is written in a way that can't work; raised when the class is made."""


class Refused(ActorqError):
    """Raised *in a handler* to turn one message down: the asker gets it, the actor lives on.

    Anything else that leaves a handler is a crash.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stopping(Refused):
    """A request refused because the run is stopping: nothing failed, and it is not to be asked again.

    Raised in a handler by an actor that is draining; the asker gets a `Stopping` too, in any process.
    """

    def __init__(self, reason: str = "the run is stopping") -> None:
        super().__init__(reason)


class Fatal(ActorqError):
    """Raised by an actor that would do harm if it were started again: the run stops, and fails with it."""


class ActorDied(ActorqError):
    """The actor that was asked crashed over the request, or will never answer it."""


class CircularWait(ActorqError):
    """This wait would close a circle of actors that wait for each other; the text names them."""


class MessageTooLarge(ActorqError, ValueError):
    """One message is bigger than its receiver's whole mailbox may be."""


class NotCarried(ActorqError, TypeError):
    """A message of a type that this port does not carry."""


class ActorFailed(ActorqError):
    """An actor crashed past its restart limit; the actor's own error is the cause."""

    def __init__(self, actor: str, reason: str) -> None:
        super().__init__(f"actor {actor!r} {reason}")
        self.actor = actor


class NodeFailed(ActorFailed):
    """A node could not be started, or died past its restart limit."""

    def __init__(self, node: str, reason: str) -> None:
        ActorqError.__init__(self, f"node {node!r} {reason}")
        self.actor = ""
        self.node = node
