"""A private folder for the sockets of one run, removed at its end, also after SIGKILL."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actorq.actors import ActorqError

_SWEEP = 'mkdir -m 700 -- "$1" || exit; echo; cat > /dev/null; rm -rf -- "$1"'

_LONGEST_PARENT = 64
"""In characters: a socket's whole path has 107 at most (unix(7))."""


@contextmanager
def private_folder() -> Iterator[str]:
    """Path of a folder readable by this user only; created and removed by a process of its own, the sweeper.

    The sweeper removes the folder when its pipe from this process closes, so also if this process is killed.
    Raises ActorqError if the folder can't be created.
    """
    path = str(_parent() / f"actorq-{secrets.token_hex(8)}")
    sweeper = subprocess.Popen(
        ["/bin/sh", "-c", _SWEEP, "actorq-sweeper", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,  # it ignores Ctrl-C
    )
    assert sweeper.stdout is not None
    try:
        with sweeper.stdout as answer:
            if not answer.readline():
                raise ActorqError(f"{path}: can't create a folder for the run's sockets there")
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        # Not by closing its pipe, which a process forked by an actor may hold open.
        sweeper.kill()
        sweeper.communicate()


def _parent() -> Path:
    """The folder for temporary files, unless socket paths in it would be too long."""
    usual = Path(tempfile.gettempdir())
    return usual if len(str(usual)) <= _LONGEST_PARENT else Path("/tmp")
