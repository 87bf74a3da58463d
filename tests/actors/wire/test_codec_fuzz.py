"""Fuzzing of the decoder for a few seconds; `python -m tests.fuzz.decoder` runs without end."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_frames_found_by_coverage(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    options = ["-atheris_runs=15000", "-seed=1", "-max_len=1024", f"-artifact_prefix={tmp_path}/"]
    fuzzing = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.decoder", *options], cwd=ROOT, capture_output=True, text=True
    )
    assert fuzzing.returncode == 0, fuzzing.stderr[-4000:]
    assert "Done 15000" in fuzzing.stderr
