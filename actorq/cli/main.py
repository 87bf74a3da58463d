"""From the shell and back: one command, and how it ends as an exit status."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TextIO, cast

from .output import Output, OutputError

DONE, FAILED, WRONG = 0, 1, 2
INTERRUPTED = 130

MANY_FILES = 65_536
"""That the command and its nodes may have open, if the system allows so many."""


class WrongUsage(ValueError):
    """Arguments that are right by themselves, but not together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default the process's own) name; returns its exit status.

    A mistake in the arguments, a file or a folder is told in sentences on standard error: status 2. An error
    that leaves this function is a bug; Python shows its traceback and exits with 1.
    """
    # Read when numpy is imported. Explorers' products are small: sharing one out costs more than it saves,
    # and much more where the other cores are busy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _raise_limit_of_files()
    if sys.stdout is None:  # as a shell's `>&-` has it: nobody wants to read it
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
    """The nodes that are started inherit it. Each connection takes a file, also a unauthenticated peer's."""
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
    """Whether it is about what the user gave; all of these say what, where, and what would be right."""
    from actorq.actors.errors import ActorqError

    return isinstance(error, WrongUsage) or (isinstance(error, ActorqError) and isinstance(error, ValueError))
