"""`actorq node --join`: this host takes part in a run that another leads."""

from __future__ import annotations

import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from actorq.actors.errors import ActorqError
from actorq.cli.logs import Logs
from actorq.cli.main import DONE, FAILED, WrongUsage
from actorq.launchers.host.agent import take_part
from actorq.launchers.host.join_token import JoinToken, read_join_token
from actorq.topology.address import Address, parse_address

LEAVE_SECONDS = 1.0


def join_run(join: str, secret: Path, listen: str | None) -> int:
    """Take part until the run ends; returns the exit status.

    Raises WrongUsage and JoinTokenError before it tries.
    """
    try:
        address = parse_address(join)
    except ValueError as error:
        raise WrongUsage(f"--join {join}: {error}") from error
    join_token = read_join_token(secret)
    with redirect_stdout(sys.stderr), Logs(colors=sys.stderr.isatty(), progress_lines=True):
        return anyio.run(_join, join_token, address, listen)


async def _join(join_token: JoinToken, address: Address, listen: str | None) -> int:
    leaving = _Leaving()
    status = DONE
    async with anyio.create_task_group() as beside:
        await beside.start(leaving.heed_signals)
        try:
            with leaving.scope:
                await take_part(join_token, address=address, leave=leaving.wanted, listen=listen)
        except ActorqError as error:
            print(f"actorq: {error}", file=sys.stderr)
            status = FAILED
        beside.cancel_scope.cancel()
    return leaving.status or status


class _Leaving:
    """The first signal leaves the run in order; the second ends the process at once."""

    def __init__(self) -> None:
        self.wanted = anyio.Event()
        self.scope = anyio.CancelScope()
        """Of what is cut short if it takes longer than LEAVE_SECONDS, such as trying to come back."""
        self.status = 0
        """128 and the signal's number, as a shell has it."""

    async def heed_signals(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self.status:
                    signal.signal(number, signal.SIG_DFL)
                    signal.raise_signal(number)
                self.status = 128 + number
                self.wanted.set()
                self.scope.deadline = anyio.current_time() + LEAVE_SECONDS
