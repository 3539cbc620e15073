"""Runs TotalSegmentator itself, by the Python of an environment that has it: ``totalsegmentator_runs.py RUNS.json``.

``RUNS.json`` is a list of ``{"image": …, "output": …, "task": …, "fast": …, "roi_subset": …}``; TOTALSEG_HOME_DIR says
where weights lie. Nothing goes over the network: weights are there, and config.json beside them says that no statistics
are sent.
"""

import json
import sys
from pathlib import Path


def main(runs: Path) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from totalsegmentator.python_api import totalsegmentator

    def in_this_process(self, source, output, save_probabilities=False, overwrite=True, **_):
        """The same functions as ``predict_from_files`` calls, without workers, which take seconds to start."""
        return self.predict_from_files_sequential(source, output, save_probabilities, overwrite)

    nnUNetPredictor.predict_from_files = in_this_process
    for run in json.loads(runs.read_text()):
        Path(run["output"]).parent.mkdir(parents=True, exist_ok=True)
        totalsegmentator(
            run["image"], run["output"], ml=True, nr_thr_resamp=1, nr_thr_saving=1, task=run["task"], device="cpu",
            quiet=True, fast=run["fast"], roi_subset=run["roi_subset"],
        )  # fmt: skip


if __name__ == "__main__":  # nnU-Net's workers import this file
    main(Path(sys.argv[1]))
