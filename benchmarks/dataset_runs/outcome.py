"""What one run of one tool left, before it is scored."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

LAST_LINES = 3000  # characters of a command that failed


@dataclass(frozen=True)
class Outcome:
    """A tool's training, and where its masks of the held-back cases lie.

    Attributes:
        masks: A folder.
        version: Of the tool.
        plan: Patch, batch and features, in words.
        steps: Of training.
        training_seconds: Of training alone: what the schedule lasted, imports included.
        seconds: Of the whole command: for medseg, whose time holds it, with its final validation.
        selected: A second folder of masks, by the weights that the tool itself chose on the held-back cases.
    """

    masks: Path
    version: str
    plan: str
    steps: int
    training_seconds: float
    seconds: float
    selected: Path | None = None


def timed(command: list[object], log: Path, **environment: str) -> float:
    """Runs a command, which writes into a log; returns its seconds."""
    start = time.perf_counter()
    with log.open("ab") as file:
        done = subprocess.run(
            [str(part) for part in command], env={**os.environ, **environment}, stdout=file, stderr=file
        )
    if done.returncode:
        told = log.read_text(encoding="utf-8", errors="replace")[-LAST_LINES:]
        raise SystemExit(f"{' '.join(map(str, command[:4]))} failed ({log}):\n{told}")
    return time.perf_counter() - start
