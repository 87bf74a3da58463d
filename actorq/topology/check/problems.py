"""Problems of a topology, collected and reported together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actorq.actors.errors import ActorqError


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: its place, what is wrong, and what would be right."""

    where: str
    """Table and key, such as `actors.explorer.ports.replay`; for a syntax error, file and line."""
    problem: str
    hint: str = ""

    def __str__(self) -> str:
        return _one_line(f"{self.where}: {self.problem}" + (f"; {self.hint}" if self.hint else ""))


def _one_line(text: str) -> str:
    """The text in one line: line ends and control characters, from a file or an error message, as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class TopologyError(ActorqError, ValueError):
    """The topology can't run; `problems` lists all reasons."""

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"{source or 'the topology'} has {count}:{lines}")


class Problems:
    """Collects problems; the same one is kept once."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def add(self, where: str, problem: str, hint: str = "") -> None:
        self._found[Problem(where, problem, hint)] = None

    def at(self, where: str) -> bool:
        """Whether a problem was found at this very key."""
        return any(problem.where == where for problem in self._found)

    def touch(self, where: str) -> bool:
        """Whether a problem was found at this key or below it."""
        within = (where + ".", where + "[")
        return any(problem.where == where or problem.where.startswith(within) for problem in self._found)

    def found(self) -> tuple[Problem, ...]:
        return tuple(self._found)

    def __len__(self) -> int:
        return len(self._found)
