"""Running the command in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

HERE = Path(__file__).parent
TOY, LEARNING = str(HERE / "toy.toml"), str(HERE / "learning.toml")
COMMAND = [sys.executable, "-m", "actorq"]  # as the command `actorq` is
SECONDS = 100.0


def command(*arguments: str | Path) -> list[str]:
    return [*COMMAND, *map(str, arguments)]


def actorq(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, check=False, timeout=SECONDS
    )


def setting(*pairs: str) -> list[str]:
    """`--set` for each."""
    return [word for pair in pairs for word in ("--set", pair)]


class Going:
    """A command that is going on: its lines are read, signals sent, its end awaited."""

    def __init__(self, *arguments: str | Path, cwd: Path, within: Sequence[str] = ()) -> None:
        """`within`: a command that runs the command somewhere else."""
        self._process = subprocess.Popen(
            [*within, *command(*arguments)],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        self._errors: IO[str] = self._process.stderr
        self.seen = ""

    def until(self, words: str) -> None:
        """Read standard error until a line has these words."""
        for line in self._errors:
            self.seen += line
            if words in line:
                return
        raise AssertionError(f"it never said {words!r}, but:\n{self.seen}")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        output, errors = self._process.communicate(timeout=SECONDS)
        return self._process.returncode, output, self.seen + errors

    def __enter__(self) -> Going:
        return self

    def __exit__(self, *unused: object) -> None:
        self._process.kill()
        self._process.communicate()
