"""Seconds from a process's start to CartPole-v1 solved: one learner of actorq's against SB3's DQN.

The same for both: solved means a mean return of 475 over 20 greedy episodes, found again on fresh seeds;
the policy is evaluated every `--evaluate-every` environment steps; a run gives up at `--cap` steps; the
clock is this process's, from before the child is started until it has ended. The two take turns, seed by
seed, so that what else the machine does falls on both. CPU seconds are told beside: they depend less on
such company.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

REACH = 0.4  # actorq's median over the baseline's
ROOT = Path(__file__).parent.parent.parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def actorq_command(seed: int, every: int, cap: int, folder: str) -> list[str]:
    path = Path(__file__).parent / "one_learner.toml"
    plan = tomllib.loads(path.read_text())
    per_insert = plan["actors"]["replay"]["config"]["samples_per_insert"]
    every_updates = round(every * per_insert / plan["agent"]["batch_size"])
    settings = [
        f"seed={seed}",
        f"stop.env_steps={cap}",
        f"actors.evaluator.config.every_updates={every_updates}",
    ]
    overrides = [word for setting in settings for word in ("--set", setting)]
    actorq = str(Path(sys.executable).with_name("actorq"))
    return [actorq, "run", str(path), *overrides, "--json", "--out", f"{folder}/run"]


def baseline_command(seed: int, every: int, cap: int, folder: str) -> list[str]:
    options = ["--seed", str(seed), "--evaluate-every", str(every), "--cap", str(cap)]
    return [sys.executable, "-m", "tests.bench._sb3_cartpole", *options]


CONTENDERS: dict[str, tuple[Callable[[int, int, int, str], list[str]], dict[str, str]]] = {
    "actorq": (actorq_command, {}),
    "sb3": (baseline_command, ONE_THREAD),
}


def children_cpu_seconds() -> float:
    """CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(name: str, seed: int, every: int, cap: int) -> dict[str, Any]:
    """One run in a process of its own: its result, with the seconds it took and the CPU seconds it used."""
    command, environment = CONTENDERS[name]
    with tempfile.TemporaryDirectory() as folder:
        cpu, start = children_cpu_seconds(), time.perf_counter()
        child = subprocess.run(
            command(seed, every, cap, folder),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
            check=False,
        )
        seconds, cpu = time.perf_counter() - start, children_cpu_seconds() - cpu
    if child.returncode:
        sys.exit(f"{name}, seed {seed}: exit status {child.returncode}\n{child.stderr}")
    result = json.loads(child.stdout)
    kept = {key: result[key] for key in ("solved", "env_steps", "updates")}
    return {"name": name, "seed": seed, **kept, "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}


def seconds_to_solved(runs: list[dict[str, Any]], key: str = "seconds") -> list[float]:
    """Of each run, sorted; a run that never got there counts as endless, not as absent."""
    return sorted(run[key] if run["solved"] else float("inf") for run in runs)


def report(name: str, runs: list[dict[str, Any]]) -> None:
    seconds = seconds_to_solved(runs)
    solved = sum(run["solved"] for run in runs)
    print(
        f"{name}: solved {solved} of {len(runs)}; seconds: median {statistics.median(seconds):.1f}, "
        f"spread {seconds[0]:.1f} to {seconds[-1]:.1f}; CPU seconds: median "
        f"{statistics.median(seconds_to_solved(runs, 'cpu_seconds')):.1f}; environment steps: median "
        f"{statistics.median(run['env_steps'] for run in runs):.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 0 on")
    parser.add_argument("--evaluate-every", type=int, default=1_000, help="environment steps")
    parser.add_argument("--cap", type=int, default=120_000, help="environment steps of one run")
    parser.add_argument("--only", choices=CONTENDERS, help="leave the other out")
    parser.add_argument("--out", type=Path, help="file for the raw results, as JSON")
    arguments = parser.parse_args()

    runs: dict[str, list[dict[str, Any]]] = {
        name: [] for name in CONTENDERS if arguments.only in (None, name)
    }
    for seed in range(arguments.seeds):
        for name, done in runs.items():
            done.append(measure(name, seed, arguments.evaluate_every, arguments.cap))
            print(json.dumps(done[-1]), flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(runs, indent=1))
    for name, done in runs.items():
        report(name, done)
    if len(runs) == len(CONTENDERS):
        ours, theirs = (statistics.median(seconds_to_solved(runs[name])) for name in ("actorq", "sb3"))
        ratio = ours / theirs
        print(f"actorq / sb3: {ratio:.2f} of the seconds (to reach: at most {REACH})")


if __name__ == "__main__":
    main()
