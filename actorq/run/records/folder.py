"""A run's folder: the paths of its files."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from actorq.actors.errors import ActorqError


class RunFolderError(ActorqError, ValueError):
    """A run can't be kept in, or read from, this folder."""


class RunFolder:
    """The paths in one run's folder.

    Made by `create` (the next free `<name>-<n>`), `at` (a new run in a given folder) or `open` (an earlier
    run's folder).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topology = path / "topology.toml"
        self.metrics = path / "metrics.jsonl"
        self.tensorboard = path / "tensorboard"
        self.checkpoints = path / "checkpoints"
        self.log = path / "run.log"
        self.report = path / "report.html"
        self.summary = path / "summary.json"
        self.histograms = path / "histograms.json"
        self.join_token = path / "join.secret"

    @classmethod
    def create(cls, root: Path, name: str) -> RunFolder:
        """Make `root/<name>-<n>` with the first n above all existing ones, also if several runs start at
        once. Raises RunFolderError if it can't be made.
        """
        taken = re.compile(re.escape(name) + r"-(\d+)")
        try:
            root.mkdir(parents=True, exist_ok=True)
            numbers = [int(match[1]) for path in root.iterdir() if (match := taken.fullmatch(path.name))]
            number = max(numbers, default=0)
            while True:
                number += 1
                path = root / f"{name}-{number}"
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path)
        except OSError as error:
            raise RunFolderError(f"{root}: no run folder can be made here: {error.strerror}") from error

    @classmethod
    def at(cls, path: Path) -> RunFolder:
        """Make the folder `path`, or use it if empty. Raises RunFolderError if it holds anything."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            found = sorted(entry.name for entry in path.iterdir())
        except FileExistsError as error:
            raise RunFolderError(f"{path}: is a file; a run needs a folder") from error
        except OSError as error:
            raise RunFolderError(f"{path}: no run folder can be made here: {error.strerror}") from error
        if found:
            resume = f"; to continue the run in it: --resume {path}" if "topology.toml" in found else ""
            raise RunFolderError(f"{path}: is not empty (it holds {found[0]}){resume}")
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of an earlier run. Raises RunFolderError if `path` is none."""
        folder = cls(path)
        if not folder.topology.is_file():
            what = "holds no topology.toml: not a run's folder" if path.is_dir() else "no such folder"
            raise RunFolderError(f"{path}: {what}")
        return folder


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically: readers find the old content or the new, even after a crash."""
    partial = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
