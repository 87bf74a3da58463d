"""Standard output that says so when it can't be written, as opposed to any other file that can't."""

from __future__ import annotations

import os
from typing import Any, TextIO


class OutputError(Exception):
    """Standard output can't be written; the text says why."""


class Output:
    """In place of `sys.stdout`: writes to it, and raises OutputError where that fails.

    A closed pipe stays a BrokenPipeError: its reader just had enough (`| head`).
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise self._failure(error) from error

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise self._failure(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def abandon(self) -> None:
        """What is still in a buffer goes nowhere, so that Python doesn't try once more when it exits."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def _failure(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error
        return OutputError(f"standard output can't be written: {error.strerror}")
