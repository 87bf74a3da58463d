"""Entry point of the `actorq` command: runs one subcommand and returns its exit status."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TextIO, cast

from .errors import DONE, FAILED, INTERRUPTED, WRONG, WrongUsage
from .output import Output, OutputError

MANY_FILES = 65_536
"""Open files allowed to the command and to each of its nodes, as far as the system's hard limit permits."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command given by `arguments` (default: the process's own); returns its exit status.

    A mistake in the arguments, a file or a folder is explained on standard error: status 2. An exception that
    leaves this function is a bug; Python shows its traceback and exits with 1.
    """
    # Read when numpy is imported. Explorers multiply small matrices: several threads for one product cost
    # more than they save, and much more where the other cores are busy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _raise_limit_of_files()
    if sys.stdout is None:  # closed by the shell: `>&-`
        return _status_of(arguments)
    output = Output(sys.stdout)
    try:
        with redirect_stdout(cast(TextIO, output)):
            status = _status_of(arguments)
            output.flush()
    except (OutputError, BrokenPipeError) as error:
        output.abandon()
        if isinstance(error, OutputError):
            print(f"actorq: {error}", file=sys.stderr)
        return FAILED
    return status


def _raise_limit_of_files() -> None:
    """Node processes inherit the limit. Each connection takes a file, also an unauthenticated peer's."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if most == resource.RLIM_INFINITY else min(most, MANY_FILES)
    if limit != resource.RLIM_INFINITY and limit < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _status_of(arguments: Sequence[str] | None) -> int:
    try:
        from .app import app

        app(arguments, prog_name="actorq")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if not _is_users(error):
            raise
        print(f"actorq: {error}", file=sys.stderr)
        return WRONG
    return DONE


def _is_users(error: Exception) -> bool:
    """Whether the user's input caused the error: then its message is complete without a traceback."""
    from actorq.actors.errors import ActorqError

    return isinstance(error, WrongUsage) or (isinstance(error, ActorqError) and isinstance(error, ValueError))
