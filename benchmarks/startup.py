"""Time of ``medseg --help`` against ``python -c "import monai"``, as whole processes, in turn.

    python benchmarks/startup.py [--runs 11]

Prints a Markdown table; the ratio is the median of those of the pairs.
"""

import argparse
import statistics
import subprocess
import sys
import time

from environment import describe

HELP = ["-m", "medseg", "--help"]
MONAI = ["-c", "import monai"]


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    seconds(HELP), seconds(MONAI)  # reads all files once
    pairs = [(seconds(HELP), seconds(MONAI)) for _ in range(runs)]
    ours, theirs = zip(*pairs, strict=True)
    print(describe())
    print(f"\nMedian of {runs} runs in turn\n\n| process | seconds | least | most |\n| --- | --- | --- | --- |")
    for name, times in (("medseg --help", ours), ('python -c "import monai"', theirs)):
        print(f"| {name} | {statistics.median(times):.3f} | {min(times):.3f} | {max(times):.3f} |")
    print(f"\nMedian of the paired ratios: {statistics.median(a / b for a, b in pairs):.3f}")


if __name__ == "__main__":
    main()
