"""A whole run whose explorers are processes of their own, against the same run in one process.

`python -m tests.bench.transport_run`: updates/s of `one_learner.toml` over 20 000 updates, from the first
to the last, over nng and over inproc, which alternate; the ratio is the median over the rounds. With
its own 32 samples per insert exploring is a small part of the work, and with 8 a larger one. Without
the evaluator: what a policy has learned by chance decides how long it plays.

`python -m tests.bench.transport_run TRANSPORT SAMPLES_PER_INSERT [UPDATES]` makes one run, for a profiler:
`py-spy record --subprocesses -- python -m tests.bench.transport_run nng 8`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

TOPOLOGY = Path(__file__).parent / "one_learner.toml"
ROUNDS = 3
UPDATES = 20_000
SAMPLES_PER_INSERT = (8.0, 32.0)
REACH = 1.15


def topology(samples_per_insert: float, updates: int) -> dict[str, Any]:
    """The file's, which ends by updates alone."""
    plan = tomllib.loads(TOPOLOGY.read_text())
    plan["stop"] = {"updates": updates}
    plan["actors"]["replay"]["config"]["samples_per_insert"] = samples_per_insert
    del plan["actors"]["evaluator"]
    return plan


def updates_per_second(transport: str, samples_per_insert: float, updates: int) -> float:
    """Of one run in this process, by the rows of its metrics."""
    from actorq.run.open_run import run
    from actorq.run.records.metrics import read_rows

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run(topology(samples_per_insert, updates), transport=transport, out=out)
        rows = [row for row in read_rows(out / "metrics.jsonl") if row.get("updates")]
    first, last = rows[0], rows[-1]
    return (last["updates"] - first["updates"]) / (last["wall_seconds"] - first["wall_seconds"])


def in_a_process_of_its_own(transport: str, samples_per_insert: float) -> float:
    command = [sys.executable, "-m", "tests.bench.transport_run", transport, str(samples_per_insert)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(samples_per_insert: float) -> None:
    print(f"{samples_per_insert:g} samples per insert")
    ratios = []
    for number in range(ROUNDS):
        nng, inproc = (in_a_process_of_its_own(name, samples_per_insert) for name in ("nng", "inproc"))
        ratios.append(nng / inproc)
        print(f"  round {number + 1}: nng {nng:,.0f} updates/s, inproc {inproc:,.0f}", flush=True)
    print(f"  updates/s, nng against inproc: {statistics.median(ratios):.2f} (to reach: {REACH})", flush=True)


def main() -> None:
    if len(sys.argv) > 1:
        transport, per_insert, *given = sys.argv[1:]
        updates = int(given[0]) if given else UPDATES
        print(updates_per_second(transport, float(per_insert), updates))
        return
    for samples_per_insert in SAMPLES_PER_INSERT:
        compare(samples_per_insert)


if __name__ == "__main__":
    main()
