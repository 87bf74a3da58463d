"""A private folder for the sockets of one run, which is gone when the run is, however it ended."""

from __future__ import annotations

import subprocess
import tempfile
from types import TracebackType
from typing import Self

_SWEEP = 'cat > /dev/null; rm -rf -- "$1"'


class PrivateFolder:
    """Readable by this user only; removed by a process of its own as soon as nobody holds this one's pipe.

    That process outlives this one by a moment: it is there for the case that this one is killed.
    """

    def __enter__(self) -> Self:
        self.path = tempfile.mkdtemp(prefix="actorq-")
        self._sweeper = subprocess.Popen(
            ["/bin/sh", "-c", _SWEEP, "actorq-sweeper", self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is not for it
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._sweeper.stdin is not None
        self._sweeper.stdin.close()
        self._sweeper.wait()
