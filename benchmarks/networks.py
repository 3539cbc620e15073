"""The tables of docs/networks.md: all networks on hippocampus in 3D and on membrane in 2D, in the same time each.

    python benchmarks/networks.py ../shared/data -o compared --max-time 5m

An hour a dataset with twelve networks of five minutes. Call it again to go on where it was stopped; the runs, tables
and plots are in compared/hippocampus and compared/membrane.
"""

import argparse
from pathlib import Path

from environment import describe

import medseg
from medseg.networks.entries import NETWORKS
from medseg.report.network_comparison import markdown

DATASETS = {"hippocampus": 3, "membrane": 2}
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--max-time", default="5m")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    for name in arguments.datasets:
        prepared = arguments.output / f"{name}_prepared"
        if not prepared.is_dir():
            medseg.preprocess(arguments.data / name, prepared)
        compared = medseg.compare(
            prepared,
            arguments.output / name,
            arguments.networks,
            dims=DATASETS[name],
            seeds=[int(seed) for seed in arguments.seeds.split(",")],
            configs=[CONFIGS / f"{name}.yaml"],
            settings=[*arguments.settings, f"training.max_time={arguments.max_time}"],
        )
        print(f"{name}; {describe()}\n\n{markdown(compared)}", flush=True)


if __name__ == "__main__":
    main()
