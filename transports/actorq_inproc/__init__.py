"""In-process queues: a letter is handed over as the object it is, and nothing is copied."""

from __future__ import annotations

from typing import ClassVar

from actorq.actors import Inbox


class InprocTransport:
    """Carries letters between nodes that share one event loop."""

    name: ClassVar[str] = "inproc"
    crosses_processes: ClassVar[bool] = False

    def __init__(self) -> None:
        self._inboxes: dict[str, Inbox] = {}

    def open(self, node: str, inbox: Inbox) -> None:
        self._inboxes[node] = inbox

    def route(self, source: str, target: str) -> Inbox:
        """The target's own inbox: a mailbox bounded by credit is all the queue there is."""
        return self._inboxes[target]

    async def close(self) -> None:
        self._inboxes.clear()


__all__ = ["InprocTransport"]
