"""Damaged and hostile inputs of every kind that medseg reads: benchmarks/fuzz.py, for a minute."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz.py"


@pytest.mark.slow
def test_no_input_of_five_hundred_ends_in_a_traceback_a_hang_or_a_silent_difference(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--inputs", "500", "--seed", "0", "-o", str(tmp_path / "failures")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
