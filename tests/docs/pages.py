"""The pages of the documentation, and the fenced blocks in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_FENCE = re.compile(r"```(\w*)\s*(.*)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"#{1,6}\s+(.*)")


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences."""

    language: str
    words: str
    """What follows the language, such as "wrong"."""
    text: str
    line: int
    """Of its first line, from 1."""

    @property
    def file(self) -> str | None:
        """The name of the file it shows, if its first line says so: `# counting.py`."""
        match = re.match(r"# ([\w-]+\.(?:py|toml))\n", self.text)
        return match[1] if match else None


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks in order. Raises ValueError over one that is never closed."""
    opened: tuple[str, str, int] | None = None
    inside: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        match = _FENCE.match(line)
        if opened is None:
            if match:
                opened, inside = (match[1], match[2].strip(), number + 1), []
        elif match:
            yield Block(opened[0], opened[1], "".join(inside), opened[2])
            opened = None
        else:
            inside.append(line)
    if opened is not None:
        raise ValueError(f"{page.name}, line {opened[2]}: this block is never closed")


def prose(page: Path) -> list[str]:
    """The lines outside of blocks."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for block in blocks(page):
        for index in range(block.line - 2, block.line + block.text.count("\n")):
            lines[index] = ""
    return lines


def links(page: Path) -> list[str]:
    return [match[1] for line in prose(page) for match in _LINK.finditer(line)]


def anchors(page: Path) -> set[str]:
    """What `#…` can point to: each heading in the form that GitHub gives it."""
    headings = [match[1] for line in prose(page) if (match := _HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
