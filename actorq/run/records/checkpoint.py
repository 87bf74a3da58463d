"""Checkpoints: every actor's state in one folder, without pickle, written atomically."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from actorq.actors.errors import ActorqError
from actorq.actors.wire.state_codec import StateEncodingError, decode, encode

log = logging.getLogger("actorq.run")

FORMAT = 2
"""Of the files and of the actors' states; 1 was that of versions before 0.1.0."""
KEPT = 2
"""Checkpoints that stay in a run's folder."""
ARRAYS, STATE, SUMS = "arrays.safetensors", "state.json", "SHA256SUMS"
_NAME = re.compile(r"checkpoint-(\d+)")


class CheckpointError(ActorqError, ValueError):
    """There is no checkpoint, it is damaged, or a state can't be kept in one."""


def save(folder: Path, states: Mapping[str, Any], meta: Mapping[str, Any]) -> Path:
    """Write `folder/checkpoint-<n>`, the next n, and remove all but the newest two. Blocks.

    `states` and `meta` are nested dicts, lists and tuples of numpy arrays, numbers of any size, text, bytes,
    booleans and None; nothing else, and none of it may change meanwhile. The checkpoint appears under its
    name only when all of it is on the disk: a crash leaves the earlier ones, and at most a hidden folder that
    the next `save` removes.

    Raises CheckpointError naming the place of a value that can't be kept, OSError if it can't be written.
    """
    try:
        tree, arrays = encode({"states": states, "meta": meta})
    except StateEncodingError as error:
        raise CheckpointError(f"no checkpoint can be made: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*"):
        shutil.rmtree(leftover)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    save_file(arrays, partial / ARRAYS)
    (partial / STATE).write_text(json.dumps({"format": FORMAT, **tree}), encoding="ascii")
    sums = [f"{_sum_of(partial / name)}  {name}\n" for name in (ARRAYS, STATE)]
    (partial / SUMS).write_text("".join(sums), encoding="ascii")
    for name in (ARRAYS, STATE, SUMS, "."):
        _sync(partial / name)
    older = _numbered(folder)
    path = partial.rename(folder / f"checkpoint-{max(older, default=0) + 1:06d}")
    _sync(folder)
    for number in sorted(older)[: 1 - KEPT]:
        # Renamed first, since a half removed one would look damaged.
        shutil.rmtree(older[number].rename(folder / f".removed-{number}"))
    return path


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The (states, meta) given to `save`; the caller owns the arrays.

    Raises CheckpointError if any byte is missing or changed, or the format is another version's.
    """
    _verify(path)
    try:
        document = json.loads((path / STATE).read_text(encoding="ascii"))
        if document["format"] != FORMAT:
            raise CheckpointError(
                f"{path}: has format {document['format']}, and this version of actorq reads format {FORMAT}: "
                "resume with the version that wrote it, or start a new run"
            )
        whole = decode(document, load_file(path / ARRAYS))
        return whole["states"], whole["meta"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: damaged: {error}") from error


def latest(folder: Path) -> Path | None:
    """The newest undamaged checkpoint, or None. Damaged ones are logged and skipped."""
    checkpoints = _numbered(folder)
    for number in sorted(checkpoints, reverse=True):
        try:
            _verify(checkpoints[number])
        except CheckpointError as error:
            log.warning("%s; it is skipped", error)
        else:
            return checkpoints[number]
    return None


def _numbered(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    return {int(match[1]): path for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))}


def _verify(path: Path) -> None:
    """Compare the files with SHA256SUMS, as `sha256sum -c` does. Raises CheckpointError."""
    try:
        lines = (path / SUMS).read_text(encoding="ascii").splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        for name in (ARRAYS, STATE):
            if _sum_of(path / name) != sums.get(name):
                raise CheckpointError(f"{path}: damaged: {name} differs from what was written (SHA-256)")
    except FileNotFoundError as error:
        missing = Path(error.filename).name if path.is_dir() else "such checkpoint"
        raise CheckpointError(
            f"{path}: no {missing}" if not path.is_dir() else f"{path}: damaged: {missing} is missing"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
