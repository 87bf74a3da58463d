"""Suggestions: the nearest right name for a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

_MOST_LISTED = 12


def nearest(name: str, known: Iterable[str], part: Callable[[str], str] = str) -> str | None:
    """The known name of which `name` is most likely a misspelling, ignoring case; None if none is near.

    `part`: the part of each name to compare, if not all of it.
    """
    folded: dict[str, str] = {}
    for right in known:
        folded.setdefault(part(right).casefold(), right)
    close = get_close_matches(part(name).casefold(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def quoted(names: Iterable[str]) -> str:
    """`"a", "b"`; shortened when there are many."""
    listed = [f'"{name}"' for name in names]
    if len(listed) > _MOST_LISTED:
        listed[_MOST_LISTED:] = ["…"]
    return ", ".join(listed)


def suggestion(name: str, known: Iterable[str], noun: str, part: Callable[[str], str] = str) -> str:
    """A hint for an unknown name: the nearest right one, or else all there are. `noun` is a plural."""
    right = list(known)
    if not right:
        return f"there are no {noun}"
    guess = nearest(name, right, part)
    return f'did you mean "{guess}"?' if guess else f"{noun}: {quoted(right)}"
