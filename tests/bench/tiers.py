"""Two groups below a root, on two cores, against one group on one core: updates a second.

`python -m tests.bench.tiers` prints the ratio of the table in docs/performance.md. Each group is a process
of its own, over nng, with a replay, an explorer and a learner; the root is with this process. The runs
alternate.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROUNDS, UPDATES, REACH = 3, 1000, 1.7


def topology(groups: int) -> dict[str, Any]:
    """Like recipes/hierarchical.toml, with a network worth a core: about 5 ms an update."""
    return {
        "name": "tiers",
        "task": {"env": "CartPole-v1"},
        "agent": {"hidden": [512, 512], "batch_size": 256},
        "stop": {"updates": UPDATES * groups},
        "nodes": {"main": {}, "edge": {"count": groups, "place": "process", "transport": "nng"}},
        "groups": {"edge": {"count": groups, "actors": ["replay", "learner", "explorer"]}},
        "actors": {
            "root": {"role": "averaging_server"},
            "replay": {
                "role": "replay", "node": "edge",
                "config": {"sampling": "uniform", "min_size": 1000, "samples_per_insert": 64.0},
            },
            "learner": {
                "role": "learner", "node": "edge", "ports": {"replay": "replay", "root": "root"},
                "config": {"synchronize_every_updates": 50, "torch_threads": 1},
            },
            "explorer": {
                "role": "environment", "node": "edge",
                "ports": {"replay": "replay", "weights": "learner"}, "config": {"chunk_steps": 4},
            },
        },
    }  # fmt: skip


def updates_per_second(groups: int) -> float:
    """Of all groups together, each with a core; from the first row of metrics to the last."""
    from actorq.run.open_run import run
    from actorq.run.records.metrics import read_rows

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:groups])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run(topology(groups), out=out)
        rows = [row for row in read_rows(out / "metrics.jsonl") if row.get("updates")]
    first, last = rows[0], rows[-1]
    return float((last["updates"] - first["updates"]) / (last["wall_seconds"] - first["wall_seconds"]))


def in_a_process_of_its_own(groups: int) -> float:
    command = [sys.executable, "-m", "tests.bench.tiers", str(groups)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    if len(sys.argv) > 1:
        print(updates_per_second(int(sys.argv[1])))
        return
    ratios = []
    for _ in range(ROUNDS):
        one, two = in_a_process_of_its_own(1), in_a_process_of_its_own(2)
        ratios.append(two / one)
        print(f"  1 group {one:.0f} updates/s, 2 groups {two:.0f}", flush=True)
    low, high = min(ratios), max(ratios)
    print(f"2 groups against 1: {statistics.median(ratios):.2f} ({low:.2f}-{high:.2f}), to reach >= {REACH}")


if __name__ == "__main__":
    main()
