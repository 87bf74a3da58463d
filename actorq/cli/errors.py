"""Exit statuses, and the error for arguments that contradict each other."""

from __future__ import annotations

DONE, FAILED, WRONG = 0, 1, 2
INTERRUPTED = 130


class WrongUsage(ValueError):
    """Arguments that are valid one by one, but not together."""
