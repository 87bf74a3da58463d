"""Overrides: single keys of a topology set from outside the file, as `--set agent.n_step=5`."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Sequence
from typing import Any

from actorq.actors.spec import MAIN

from .check.problems import Problem
from .suggest import suggestion

_NAMED = ("actors", "nodes", "groups")  # tables with names as keys, to which an override adds none


def apply_overrides(tables: dict[str, Any], overrides: Sequence[str]) -> list[Problem]:
    """Apply each "table.key=value" in place, later ones last; returns the problems."""
    problems = []
    for text in overrides:
        path, equals, value = text.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not equals or not all(keys):
            problems.append(
                Problem(f"--set {text}", "not of the form table.key=value", "such as agent.n_step=5")
            )
            continue
        problem = _assign(tables, keys, value.strip())
        if problem:
            problems.append(Problem(f"--set {text}", *problem))
    return problems


def _assign(tables: dict[str, Any], keys: list[str], text: str) -> tuple[str, str] | None:
    """Set one key; returns the problem and a hint, or None."""
    try:
        value = parse_value(text)
    except ValueError as error:
        return str(error), ""
    table: Any = tables
    for depth, key in enumerate(keys[:-1]):
        if isinstance(table, list):
            if not key.isdecimal() or int(key) >= len(table):
                place = ".".join(keys[:depth])
                return f"{place} is a list of {len(table)}", f"such as {place}.0.{keys[-1]}"
            table = table[int(key)]
            continue
        if depth == 1 and keys[0] in _NAMED and key not in table and (keys[0], key) != ("nodes", MAIN):
            return f"there is no {'.'.join(keys[:2])}", suggestion(key, table, keys[0])
        table = table.setdefault(key, {})
        if not isinstance(table, dict | list):
            return f"{'.'.join(keys[: depth + 1])} is a single value, not a table", ""
    if not isinstance(table, dict):
        return f"{'.'.join(keys[:-1])} is no table", ""
    table[keys[-1]] = value
    return None


def parse_value(text: str) -> Any:
    """Parse a TOML value; a text that doesn't begin like a value is itself the value: `CartPole-v1` needs no
    quotes.

    Raises ValueError for an empty value and for a broken list, table or quoted text.
    """
    if not text:
        raise ValueError('no value after "="; an empty text is written ""')
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if text[0] in "[{\"'":
            raise ValueError(f"not a TOML value: {error}") from None
        return text
    value = parsed["value"]
    is_date = isinstance(value, datetime.date | datetime.time)
    return text if len(parsed) > 1 or is_date else value
