"""compare: trains networks on one prepared dataset, each in the same time, and says what each gave and took.

DIR/runs/NETWORK/fold_0_seed_0/   a run of 'medseg train', with settings.yaml, and train.log, what that printed
    comparison.json, .csv, .md    the table; comparison.png: the plot
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ConfigError
from medseg.evaluation.network_comparison import NetworkComparison
from medseg.files import ensure_folder
from medseg.networks.entries import entry_of
from medseg.parallel import run_in_workers
from medseg.plugins import loaded_plugins
from medseg.progress import warn
from medseg.remote_workers import MOST_DEATHS_OF_A_TRAINING, RemoteWorkers
from medseg.report.network_comparison import write_network_comparison
from medseg.training.trials import LOG, Trial, check_begun, compare_trials, train_trial


def compare(
    prepared: str | Path,
    output: str | Path,
    networks: Sequence[str | Path],
    *,
    dims: Literal[2, 3] = 3,
    folds: Sequence[int] = (0,),
    seeds: Sequence[int] = (0,),
    configs: Sequence[Path] = (),
    settings: Sequence[str] = (),
    device: str = "auto",
    executor: Executor | None = None,
) -> NetworkComparison:
    """Trains several networks on one prepared dataset, each in the same time, and compares what each gave and took.

    Each network is trained on each fold with each seed, all with the same settings; only the learning rate is each
    network's own where it isn't set. Width, patch and batch don't follow the time (``training.fit_to_time``), so that
    all have the same. Each training is a ``medseg train`` in a process of its own. One that is finished isn't repeated,
    an interrupted one goes on; networks, folds and seeds may be added. A training that fails stands in the table with
    its reason.

    Args:
        prepared: The folder that ``preprocess`` made.
        output: A folder for the runs, for table and plot, which are written after each training anew.
        networks: Names; or YAML files with settings of their own, which go by the name of the file.
        dims: 2 or 3.
        folds: The folds to validate on, from 0.
        seeds: Of each training.
        configs: YAML files of settings.
        settings: Single ones, such as ``"training.max_time=5m"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        executor: Trains the networks, several at a time, in place of this machine: see ``medseg.open_cluster``, whose
            workers are to take one task at a time (``tasks=1``).

    Returns:
        The comparison, as it is written.

    Raises:
        ConfigError: A setting is wrong, or a run in ``output`` had other settings.
    """
    dataset, folder = PreparedDataset(Path(prepared)), ensure_folder(Path(output))
    names = [_name(network) for network in networks]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--network: {', '.join(names) or 'none'} given; name each network once")
    trials = [
        _trial(network, fold, seed, folder, configs, settings)
        for seed, fold, network in product(seeds, folds, networks)
    ]
    chosen = choose_device(device) if executor is None else device
    for trial in trials:
        check_begun(trial, dims, dataset)
    problems: dict[str, list[str]] = {name: [] for name in names}
    setting = {
        "prepared": str(dataset.folder.resolve()),
        "dims": dims,
        "folds": list(folds),
        "seeds": list(seeds),
        "settings": [*map(str, configs), *settings],
        "device": str(chosen),
    }
    train = partial(train_trial, prepared=dataset.folder, dims=dims, device=device, plugins=loaded_plugins())
    # A training is tried again as long as it gets on: it goes on from its checkpoint.
    remote = RemoteWorkers(executor, (dataset.folder,), folder, MOST_DEATHS_OF_A_TRAINING) if executor else None
    to_do = [trial for trial in trials if not trial.is_finished]
    for outcome in run_in_workers(train, to_do, workers=remote or 1, description="Training"):
        trial, reason = outcome.item, outcome.result or outcome.error
        if reason:
            problems[trial.network].append(f"fold {trial.fold}, seed {trial.seed}: {reason}")
            warn(f"{trial} failed: {reason} (see {trial.folder / LOG})")
        write_network_comparison(compare_trials(folder, trials, problems, setting))
    comparison = compare_trials(folder, trials, problems, setting)
    write_network_comparison(comparison)
    return comparison


def _name(network: str | Path) -> str:
    return Path(network).stem if _is_file(network) else str(network)


def _is_file(network: str | Path) -> bool:
    return Path(network).suffix in (".yaml", ".yml")


def _trial(
    network: str | Path, fold: int, seed: int, folder: Path, configs: Sequence[Path], settings: Sequence[str]
) -> Trial:
    own = [Path(network)] if _is_file(network) else []
    named = [] if own else [f"network.name={network}"]
    # One plan for all: the width that there is time for is measured anew each time, and would differ between seeds.
    settings = ["training.fit_to_time=false", *settings, *named, f"training.fold={fold}", f"training.seed={seed}"]
    config = load([*configs, *own], settings)
    entry_of(config.network.name)
    name = _name(network)
    return Trial(name, fold, seed, folder / "runs" / name / f"fold_{fold}_seed_{seed}", config)
