"""When this process began."""

from __future__ import annotations

import os
import time
from pathlib import Path


def process_started() -> float:
    """The `time.monotonic()` at which this process began, to 10 ms; now, where /proc doesn't tell.

    What Python took to start, and imports, are part of what a user waits for.
    """
    try:
        # After the command's name, which may hold blanks and brackets: field 22 is the start, in clock ticks
        # since boot (proc_pid_stat(5)).
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        since_boot = int(fields[22 - 3]) / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic()
