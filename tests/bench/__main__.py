"""Run every benchmark of this folder, one at a time, each in a process of its own.

`python -m tests.bench` runs all, `python -m tests.bench NAME …` those named. Exit status 1 if one failed.
"""

import subprocess
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    known = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_"))
    if unknown := set(names) - set(known):
        print(f"No benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or known:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
