"""What windows of another size, and less overlap, cost in Dice and save in time: the held-back cases of runs.

    python benchmarks/windows.py RUN [RUN …]

For each run: its windows as in training, each of those that 'medseg train' would try at its end (the fewest voxels
first), and what it would choose. Dice is the mean over cases and labels, on the model grid; seconds are of all
held-back cases, image reading and Dice included. Prints a Markdown table.
"""

import argparse
from pathlib import Path

from environment import describe

from medseg.config import Config
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.inferers.backends import seconds_of_window
from medseg.inferers.model import load_model
from medseg.inferers.windows import window_of, window_overlap
from medseg.training.inference_fit import faster_windows, seen_voxels
from medseg.training.run import reopen_run
from medseg.training.run_record import read_run_record
from medseg.training.validation import validate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--cases", type=int, default=10, help="held-back cases that are compared, at most")
    arguments = parser.parse_args()
    print(describe())
    print("\n| run | cases | window | overlap | voxels seen | seconds | Dice |")
    print("| --- " * 7 + "|")
    for folder in arguments.runs:
        compare(folder, arguments.cases)


def compare(folder: Path, n_cases: int) -> None:
    dataset = PreparedDataset(Path(read_run_record(folder).prepared))
    run = reopen_run(folder, dataset, Config())
    model = load_model(folder, choose_device("cpu"))
    cases = run.split.validation[:n_cases]
    shapes = [dataset.model_grid(case_id).shape for case_id in cases]
    first = run.config.inference.model_copy(update={"overlap": 0.5, "window": None})
    own = seen_voxels(model.network, run.plan, first, shapes)
    seconds_of_window(model)  # warms up
    for config in (first, *faster_windows(model.network, run.plan, first, shapes)):
        seen = seen_voxels(model.network, run.plan, config, shapes) / own
        result = validate(model.network, dataset.subset(cases), run.plan, config, model.device)
        window = "×".join(map(str, window_of(model.network, run.plan, config)))
        cells = [
            "/".join(folder.resolve().parts[-2:]),
            len(cases),
            window,
            window_overlap(config),
            f"{seen:.2f}",
            f"{result.seconds:.2f}",
        ]
        print("|", " | ".join([*map(str, cells), f"{result.mean_dice:.4f}"]), "|", flush=True)


if __name__ == "__main__":
    main()
