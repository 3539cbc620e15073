"""Runs TotalSegmentator itself, by the Python of an environment that has it: ``totalsegmentator_runs.py RUNS.json``.

``RUNS.json`` is a list of ``{"image": …, "output": …, "task": …, "fast": …, "roi_subset": …}``; TOTALSEG_HOME_DIR says
where weights lie. Nothing goes over the network: weights are there, and config.json beside them says that no statistics
are sent.
"""

import json
import sys
from pathlib import Path


def main(runs: Path) -> None:
    from totalsegmentator.python_api import totalsegmentator

    for run in json.loads(runs.read_text()):
        Path(run["output"]).parent.mkdir(parents=True, exist_ok=True)
        totalsegmentator(
            run["image"], run["output"], ml=True, nr_thr_resamp=1, nr_thr_saving=1, task=run["task"], device="cpu",
            quiet=True, fast=run.get("fast", False), roi_subset=run.get("roi_subset"),
        )  # fmt: skip


if __name__ == "__main__":  # nnU-Net's workers import this file
    main(Path(sys.argv[1]))
