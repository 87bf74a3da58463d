"""Metrics writer: a thread of its own, so that a slow disk never blocks the run's event loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

import msgspec

from actorq.actors.histogram import Distribution

from .folder import RunFolder, write_atomically
from .recorder import Entry, Row
from .tensorboard import TensorBoard

log = logging.getLogger("actorq.run")


class Sink(Protocol):
    """Destination of metrics rows. Called by one thread."""

    def add(self, entries: Sequence[Entry]) -> None: ...
    def close(self) -> None: ...


class LineWriter:
    """Writer of metrics.jsonl: each row a line of JSON, flushed at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")

    def add(self, entries: Sequence[Entry]) -> None:
        self._file.writelines(msgspec.json.encode(entry.row) + b"\n" for entry in entries)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Metrics:
    """Queue of rows, written to metrics.jsonl at once and to TensorBoard's event files at intervals.

    `write` only queues: one call takes a microsecond. The first error of a sink is logged and ends that sink;
    the run continues. `close` writes what is queued.
    """

    def __init__(self, folder: RunFolder, resumed_at: float | None = None) -> None:
        """With `resumed_at` (the checkpoint's wall seconds) rows written after that time are dropped,
        since the resumed run writes that stretch again. Raises OSError if metrics.jsonl can't be written.
        """
        if resumed_at is not None:
            _drop_after(folder.metrics, resumed_at)
        resumed = resumed_at is not None
        self._sinks: list[Sink] = [LineWriter(folder.metrics), TensorBoard(folder.tensorboard, resumed)]
        self._entries: SimpleQueue[Entry | None] = SimpleQueue()
        self._thread = Thread(target=self._write_all, name="actorq-metrics", daemon=True)
        self._thread.start()

    def write(self, row: Row, distributions: Mapping[str, Distribution] | None = None) -> None:
        """Queue a row and its interval's distributions, neither of which may change later. Thread-safe."""
        self._entries.put(Entry(row, distributions or {}))

    def close(self) -> None:
        """Write what is queued and close the files. Blocks; a second call does nothing."""
        self._entries.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        while batch := self._next_batch():
            for sink in tuple(self._sinks):
                try:
                    sink.add(batch)
                except Exception:
                    log.exception("%s: metrics can't be written; the run continues without", _name(sink))
                    self._sinks.remove(sink)
        for sink in self._sinks:
            try:
                sink.close()
            except Exception:
                log.exception("%s: the last metrics can't be written", _name(sink))

    def _next_batch(self) -> list[Entry]:
        """All waiting entries, once there is at least one; empty at the end."""
        batch: list[Entry] = []
        entry = self._entries.get()
        while entry is not None:
            batch.append(entry)
            try:
                entry = self._entries.get_nowait()
            except Empty:
                return batch
        if batch:
            self._entries.put(None)  # again: this batch is written first
        return batch


def _name(sink: Sink) -> str:
    return type(sink).__name__


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.jsonl, none if there is no file; a line cut short by a crash is left out."""
    return [row for _, row in _lines(path)]


def _lines(path: Path) -> list[tuple[bytes, Row]]:
    found = []
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
        try:
            row = msgspec.json.decode(line, type=dict[str, float | None])
        except msgspec.MsgspecError:
            continue
        found.append((line, {name: float("nan") if value is None else value for name, value in row.items()}))
    return found


def _drop_after(path: Path, wall_seconds: float) -> None:
    kept = [line for line, row in _lines(path) if row.get("wall_seconds", 0.0) <= wall_seconds]
    write_atomically(path, b"".join(line if line.endswith(b"\n") else line + b"\n" for line in kept))
