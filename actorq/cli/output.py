"""Standard output whose write errors are told apart from those of other files."""

from __future__ import annotations

import os
from typing import Any, TextIO


class OutputError(Exception):
    """Standard output can't be written; the text says why."""


class Output:
    """Replacement for `sys.stdout` that raises OutputError where writing fails.

    A closed pipe stays a BrokenPipeError: the reader needs no more (`| head`).
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
        """Discard what is still in a buffer, so that Python doesn't try to write it again when it exits."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def _failure(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error
        return OutputError(f"standard output can't be written: {error.strerror}")
