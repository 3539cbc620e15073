"""Commands that are killed at random moments: benchmarks/kills.py, a few times."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"


@pytest.mark.slow
def test_the_second_call_makes_good_what_a_kill_left() -> None:
    commands = "inspect,preprocess,train,predict,evaluate,package"
    command = [sys.executable, str(SCRIPT), "--kills", "12", "--seed", "0", "--commands", commands]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
