"""Actors that send each other numbered messages, and log each in files that survive them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import Actor, DeadLetter, Group, Message, handles
from actorq_nng import NngTransport

from .actors import note

LARGE = 1 << 16
"""So many numbers go by shared memory."""


class Entry(Message):
    sender: str
    incarnation: int
    number: int
    data: NDArray[np.float32]

    @property
    def key(self) -> str:
        return f"{self.sender} {self.incarnation} {self.number}"


def entry(sender: str, incarnation: int, number: int) -> Entry:
    """Every eighth is large."""
    return Entry(sender, incarnation, number, np.full(1 if number % 8 else LARGE, number, np.float32))


class Cut(Message):
    """Close all connections of the process, as a failing network would."""


def cut_connections() -> None:
    for transport in gc.get_objects():
        if type(transport) is NngTransport:  # not isinstance: it would ask lazy proxies for their class
            transport.cut()


class Accountant(Actor):
    """Sends to all others without end, and writes down what it sends, gets, and is told."""

    others: Group[Entry]

    class Config(actors.Config):
        board: str
        delivery_log: str
        books: str

    async def on_start(self) -> None:
        append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.delivery_log = os.open(self.config.delivery_log, append)
        self.books = os.open(f"{self.config.books}/{self.name}", append)
        note(self.config.board, self.name, "starting", os.getpid())

    async def run(self) -> None:
        number = 0
        while True:
            for other in self.others:
                number += 1
                message = entry(self.name, self.restarts, number)
                await other.tell(message)
                self.write(self.books, "sent", message.key, other.name)

    async def on_undelivered(self, dead_letter: DeadLetter) -> None:
        assert isinstance(dead_letter.message, Entry)
        self.write(self.books, dead_letter.outcome.name, dead_letter.message.key, dead_letter.target)

    async def on_stop(self) -> None:
        self.write(self.books, "lived", self.name, self.restarts)
        os.close(self.books)
        os.close(self.delivery_log)

    @handles
    async def take(self, message: Entry) -> None:
        if not (message.data == message.number).all():
            raise ValueError(f"{message.key} came with other numbers than it was sent with")
        self.write(self.delivery_log, "begun", message.key, self.name)
        await self.sleep(0.0002)
        self.write(self.delivery_log, "done", message.key, self.name)
        self.progress("handled")

    @handles
    async def cut(self, message: Cut) -> None:
        cut_connections()

    def write(self, file: int, *words: object) -> None:
        os.write(file, (" ".join(map(str, words)) + "\n").encode())


@dataclass
class Books:
    """All that was written, by what it says: keys of messages, and their receivers."""

    begun: list[tuple[str, str]] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    told: dict[str, str] = field(default_factory=dict)
    """Key to outcome."""
    lived: set[tuple[str, int]] = field(default_factory=set)
    """Senders' lives that came to an orderly end: they were told of all that was to be told."""

    def read(self, delivery_log: Path, books: Path) -> None:
        for line in _lines(delivery_log):
            what, sender, incarnation, number, receiver = line.split()
            if what == "begun":
                self.begun.append((f"{sender} {incarnation} {number}", receiver))
            else:
                self.done.add(f"{sender} {incarnation} {number}")
        for book in books.iterdir():
            for line in _lines(book):
                what, sender, incarnation, *rest = line.split()
                if what == "lived":
                    self.lived.add((sender, int(incarnation)))
                elif what == "sent":
                    self.sent.add(f"{sender} {incarnation} {rest[0]}")
                else:
                    key = f"{sender} {incarnation} {rest[0]}"
                    assert key not in self.told, f"{key}: told twice, {self.told[key]} and {what}"
                    self.told[key] = what

    def of_the_living(self, keys: set[str]) -> set[str]:
        """Those whose senders' lives came to an orderly end."""
        return {key for key in keys if (key.split()[0], int(key.split()[1])) in self.lived}


def _lines(file: Path) -> Iterator[str]:
    yield from file.read_text().splitlines()
