"""Fencing: requests of incarnations that have ended are refused."""

from __future__ import annotations

from collections.abc import Iterator

from actorq.actors import Refused

ENDED = "discarded: the incarnation that sent it has ended"


class IncarnationFence:
    """Tells requests of a client's running incarnation from those of ended ones, which may arrive later.

    Clients are known by their index, their incarnations by the number of restarts.
    """

    def __init__(self, clients: int) -> None:
        self._clients = clients
        self._newest: dict[int, int] = {}
        self._ended: dict[int, int] = {}

    def admit(self, client: int, incarnation: int) -> None:
        """Raises Refused if this incarnation has ended, or if there is no such client."""
        if not 0 <= client < self._clients:
            raise Refused(f"there is no worker {client}; there are {self._clients}")
        if self.has_ended(client, incarnation):
            raise Refused(ENDED)
        self._newest[client] = incarnation

    def has_ended(self, client: int, incarnation: int) -> bool:
        return incarnation <= self._ended.get(client, -1)

    def end(self, client: int, incarnation: int) -> None:
        """The client's incarnations up to this one have ended."""
        self._ended[client] = incarnation

    def down(self) -> Iterator[int]:
        """The clients whose last incarnation has ended, and no request of a later one was admitted."""
        return (client for client, ended in self._ended.items() if self._newest.get(client, -1) <= ended)
