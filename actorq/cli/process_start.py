"""Start time of this process."""

from __future__ import annotations

import os
import time
from pathlib import Path


def process_started() -> float:
    """The `time.monotonic()` of the process's start, to 10 ms; the current time where /proc is missing.

    So that `wall_seconds` includes Python's start and all imports.
    """
    try:
        # After the command's name, which may hold blanks and brackets: field 22 is the start, in clock ticks
        # since boot (proc_pid_stat(5)).
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        since_boot = int(fields[22 - 3]) / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic()
