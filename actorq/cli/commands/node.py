"""`actorq node --join`: runs a node of a run whose coordinator is on another host."""

from __future__ import annotations

import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from actorq.actors.errors import ActorqError
from actorq.cli.errors import DONE, FAILED, WrongUsage
from actorq.cli.logs import Logs
from actorq.launchers.host.agent import run_agent
from actorq.launchers.host.join_token import JoinToken, read_join_token
from actorq.topology.address import Address, parse_address

LEAVE_SECONDS = 1.0


def join_run(join: str, secret: Path, listen: str | None) -> int:
    """Join a run as one of its nodes, until the run ends; returns the exit status.

    Raises WrongUsage and JoinTokenError before it connects.
    """
    try:
        address = parse_address(join)
    except ValueError as error:
        raise WrongUsage(f"--join {join}: {error}") from error
    join_token = read_join_token(secret)
    with redirect_stdout(sys.stderr), Logs(colors=sys.stderr.isatty(), progress_lines=True):
        return anyio.run(_join, join_token, address, listen)


async def _join(join_token: JoinToken, address: Address, listen: str | None) -> int:
    leaving = _LeaveOnSignal()
    status = DONE
    async with anyio.create_task_group() as tasks:
        await tasks.start(leaving.handle_signals)
        try:
            with leaving.scope:
                await run_agent(join_token, address=address, leave=leaving.wanted, listen=listen)
        except ActorqError as error:
            print(f"actorq: {error}", file=sys.stderr)
            status = FAILED
        tasks.cancel_scope.cancel()
    return leaving.status or status


class _LeaveOnSignal:
    """Signal handling of a joined node: the first leaves the run in order, the second ends the process."""

    def __init__(self) -> None:
        self.wanted = anyio.Event()
        self.scope = anyio.CancelScope()
        """Cancelled LEAVE_SECONDS after the first signal: reconnecting, for one, could last longer."""
        self.status = 0
        """128 plus the signal's number, as in a shell."""

    async def handle_signals(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self.status:
                    signal.signal(number, signal.SIG_DFL)
                    signal.raise_signal(number)
                self.status = 128 + number
                self.wanted.set()
                self.scope.deadline = anyio.current_time() + LEAVE_SECONDS
