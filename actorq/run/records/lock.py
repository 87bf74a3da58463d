"""File lock: one run at a time writes into a folder."""

from __future__ import annotations

import fcntl
import logging
import os

from .folder import RunFolder, RunFolderError

log = logging.getLogger("actorq.run")


class FolderLock:
    """flock of a run's folder, held while the run writes into it; the kernel releases it with the process."""

    def __init__(self, folder: RunFolder) -> None:
        """Raises RunFolderError if another run holds it, here or in another process."""
        try:
            self._file = os.open(folder.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunFolderError(f"{folder.path}: can't be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise RunFolderError(f"{folder.path}: a run is writing into it already") from None
        except OSError as error:  # some clusters' file systems have no locks
            log.warning("%s: can't be locked (%s): start no other run in it", folder.path, error.strerror)

    def release(self) -> None:
        """Release the lock; not twice."""
        os.close(self._file)
