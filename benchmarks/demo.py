"""The first command that anyone runs, on a quiet machine and beside a program that keeps one core busy.

    python benchmarks/demo.py [--dims 2 3] [--conditions quiet busy] [--seeds 0 1]

Each row is a whole 'medseg demo'. To stand in for a laptop without AVX-512 and bf16, set
ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 for the script.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import describe

BUSY = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dims", nargs="+", type=int, choices=(2, 3), default=[3, 2])
    parser.add_argument("--conditions", nargs="+", choices=("quiet", "busy"), default=["quiet", "busy"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    print(describe())
    head = "| dims | machine | seed | whole command (s) | steps | mean Dice | lowest | threads |"
    print(f"\n{head}\n" + "| --- " * 8 + "|")
    for dims in arguments.dims:
        for condition in arguments.conditions:
            for seed in arguments.seeds:
                print(row(dims, condition, seed), flush=True)


def row(dims: int, condition: str, seed: int) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "demo"
        command = [sys.executable, "-m", "medseg", "demo", "-o", str(folder), "--dims", str(dims), "--seed", str(seed)]
        other = subprocess.Popen([sys.executable, "-c", BUSY]) if condition == "busy" else None
        start = time.perf_counter()
        try:
            told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        finally:
            if other is not None:
                other.kill()
        seconds = time.perf_counter() - start
        labels = json.loads((folder / "metrics" / "metrics.json").read_text())["summary"]["labels"]
        dice = {name: label["metrics"]["dice"]["mean"] for name, label in labels.items()}
        lowest = min(dice, key=lambda name: dice[name])
        steps = json.loads((folder / "run" / "model" / "model.json").read_text())["provenance"]["steps"]
    threads = "; ".join(line.strip() for line in told.splitlines() if " threads: " in line)
    mean = sum(dice.values()) / len(dice)
    return (
        f"| {dims} | {condition} | {seed} | {seconds:.0f} | {steps} | {mean:.3f} | {dice[lowest]:.3f} ({lowest}) "
        f"| {threads or 'all'} |"
    )


if __name__ == "__main__":
    main()
