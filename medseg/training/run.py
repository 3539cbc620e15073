"""A run folder: what is decided at its start and never changes, so that it can be resumed. A run of all folds has
such a folder for each: RUN/fold_0 and so on.

RUN/config.yaml    the resolved settings
    run.json       the plan, the split, the prepared folder
    checkpoint/    last.safetensors, and good.safetensors that the watchdog goes back to
    log.csv, events/, progress.png
    model/         the weights with the best validation Dice; model-last/ those of the last step
    validation/    masks and metrics of the cases that were not trained on
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from medseg.architecture import CUSTOM_NETWORK
from medseg.config import Config, load
from medseg.dataset.prepared_json import StoredCase
from medseg.dataset.splits import Split, count_folds, split_fold
from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.errors import ConfigError, TrainingError, printable, reading
from medseg.files import ensure_folder, write_text
from medseg.networks.registry import build_network
from medseg.plan import ObjectOutputs, Plan
from medseg.planning.candidates import CandidatePlan, candidate_plans, dearest_affordable
from medseg.planning.derive import fit_to_cpu
from medseg.planning.network import fit_to_network, with_network, with_prompts
from medseg.planning.regions import regions_to_learn
from medseg.planning.sides import axes_to_mirror, mirrored_pairs
from medseg.progress import say, warn
from medseg.records import write_record
from medseg.report.evaluation import REPORT_FILE
from medseg.training.budget import Budget
from medseg.training.initial import InitialModel
from medseg.training.run_record import RunRecord, read_run_record
from medseg.training.teacher import student_model

# What may be another when a run is resumed.
CHANGEABLE = {"training.epochs", "training.max_time", "training.patience"}


@dataclass(frozen=True)
class Run:
    """A run that is about to be trained, from its beginning or from its checkpoint."""

    folder: Path
    config: Config
    plan: Plan
    split: Split
    dataset: PreparedDataset

    @property
    def checkpoint(self) -> Path:
        """The file of the checkpoint that the run goes on from."""
        return self.folder / "checkpoint" / "last.safetensors"

    @property
    def good_checkpoint(self) -> Path:
        """The file of the checkpoint that the watchdog goes back to."""
        return self.folder / "checkpoint" / "good.safetensors"

    def write(self) -> None:
        """Writes what ``reopen_run`` reads."""
        write_text(self.folder / "config.yaml", self.config.to_yaml())
        record = RunRecord(
            prepared=str(self.dataset.folder.resolve()),
            plan=self.plan,
            training=self.split.training,
            validation=self.split.validation,
        )
        write_record(self.folder / "run.json", record)


def start_runs(
    folder: Path,
    dataset: PreparedDataset,
    dims: Literal[2, 3] | None,
    config: Config,
    device: Device,
    processes: int = 1,
) -> list[Run]:
    """Decides plan and split; ``Run.write`` writes them down, once the network could be built.

    Returns:
        One run, or, where ``training.fold`` is all, one a fold, which share ``max_time``. ``processes`` share a batch.
        ``dims`` of None are 3, or those of the model that the run begins with.

    Raises:
        TrainingError: The folder holds a run already.
    """
    refuse_to_overwrite(folder)
    groups = {case_id: case.group for case_id, case in dataset.cases.items()}
    present = {case_id: _present(case) for case_id, case in dataset.cases.items()}
    fold, folds = config.training.fold, config.training.folds
    n = count_folds(groups, folds) if fold == "all" else 1
    plan, config = resolve_plan(dataset, dims, _with_training(config, **_shared(config, n)), device, processes)
    if fold != "all":
        return [Run(ensure_folder(folder), config, plan, split_fold(groups, fold, folds, present), dataset)]
    ensure_folder(folder)
    each = [_with_training(config, fold=i) for i in range(n)]
    return [Run(folder / f"fold_{i}", each[i], plan, split_fold(groups, i, folds, present), dataset) for i in range(n)]


def refuse_to_overwrite(folder: Path) -> None:
    """Checks that the folder holds no run. Raises ``TrainingError`` when it does."""
    if any((folder / name / "run.json").exists() for name in ("", "fold_0")):
        raise TrainingError(f"{folder} holds a run already; go on with it by --resume, or choose another -o")


def reopen_runs(folder: Path, dataset: PreparedDataset, changes: Config) -> list[Run]:
    """Returns the runs as they were started, but for the length that ``changes`` set."""
    if not (folder / "fold_0" / "run.json").is_file():
        return [reopen_run(folder, dataset, changes)]
    folds = sorted(folder.glob("fold_*/run.json"), key=lambda path: (len(path.parent.name), path))
    if "max_time" in changes.training.model_fields_set:
        changes = _with_training(changes, **_shared(changes, len(folds)))
    runs = [reopen_run(path.parent, dataset, changes) for path in folds]
    if changes.model_fields_set:
        for run in runs:  # they go on, and are validated again
            (run.folder / REPORT_FILE).unlink(missing_ok=True)
    return runs


def _shared(config: Config, n: int) -> dict[str, Any]:
    max_time = config.training.max_time
    return {} if max_time is None else {"max_time": max_time / n}


def _with_training(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update=changes)})


def _present(case: StoredCase) -> frozenset[str]:
    """Returns the labels that a case has."""
    return frozenset(name for name, ml in case.volumes_ml.items() if ml > 0)


def reopen_run(folder: Path, dataset: PreparedDataset, changes: Config) -> Run:
    """Returns the run as it was started, but for the length that ``changes`` set.

    Raises:
        TrainingError: There is none, or its cases are gone.
        ConfigError: Other changes were asked for.
    """
    record = read_run_record(folder)
    gone = sorted({*record.training, *record.validation} - set(dataset.cases))
    if gone:
        raise TrainingError(f"{dataset.folder} has no case '{printable(gone[0])}', which the run in {folder} uses")
    split = Split(record.training, record.validation)
    shared = split.on_both_sides({case_id: case.group for case_id, case in dataset.cases.items()})
    if shared:
        warn(f"{folder}: training and validation share {shared[0]}, as cases are grouped now: validation is too good")
    with reading(folder / "run.json", "of this dataset", "start a new run", TrainingError):
        record.plan.check_fits(dataset.labels, dataset.record.channels)
    return Run(folder, _changed(load([folder / "config.yaml"]), changes), record.plan, split, dataset)


def _changed(config: Config, changes: Config) -> Config:
    """Returns the settings with another length: either of ``epochs`` and ``max_time`` takes the place of the other."""
    given = {f"{name}.{key}" for name in changes.model_fields_set for key in getattr(changes, name).model_fields_set}
    fixed = sorted(given - CHANGEABLE)
    if fixed:
        raise ConfigError(
            f"{fixed[0]}: a run is resumed with its own settings; only {', '.join(CHANGEABLE)} may change"
        )
    keys = changes.training.model_fields_set
    update = {key: getattr(changes.training, key) for key in keys}
    if keys == {"epochs"} or keys == {"epochs", "patience"}:
        update["max_time"] = None
    return _with_training(config, **update)


def resolve_plan(
    dataset: PreparedDataset, dims: Literal[2, 3] | None, config: Config, device: Device, processes: int = 1
) -> tuple[Plan, Config]:
    """Returns the dataset's plan for this device with the user's changes, as large as ``training.max_time`` pays for.

    The settings come with it, which the model that the run begins with may have completed.
    """
    init = _shaping_model(config)
    if init is not None and dims not in (None, init.dims):
        raise ConfigError(f"training.init, training.teacher: {init.source} is a {init.dims}D model; leave --dims out")
    if dims is None:
        dims = init.dims if init is not None else 3 if dataset.plans.plan_3d is not None else 2
    full = dataset.plans.plan_2d if dims == 2 else dataset.plans.plan_3d
    if full is None:
        raise ConfigError(f"{dataset.folder} holds 2D images, or volumes of too few slices; train with --dims 2")
    usual = full if device.is_cuda else fit_to_cpu(full, config)
    plan, config = (usual, config) if init is None else init.shape(usual, config)
    if config.training.max_time is not None and _is_open(config, device):
        budget = Budget(config.training.max_time, dataset, config, device, processes)
        plan = _in_time(candidate_plans(full, config), usual, budget)
    else:
        plan = _completed(plan, dataset, config)
    pairs = mirrored_pairs(dataset, sorted(dataset.cases), plan.grid.orientation)
    plan = plan.model_copy(update={"mirrored_pairs": pairs})
    flat = dataset.plans.plan_3d is None
    axes = axes_to_mirror(plan, dataset.labels, config.augmentation.mirror, flat)
    return plan.model_copy(update={"mirrored_axes": axes}), config


def _shaping_model(config: Config) -> InitialModel | None:
    """Returns the model that says how the network looks: that which it begins with, or a narrower one of its
    teacher."""
    init, teacher = config.training.init, config.training.teacher
    if init is not None and teacher is not None:
        raise ConfigError("training.init, training.teacher: give one of them; a student begins with random weights")
    if teacher is not None:
        if config.training.prompts not in (None, "none"):
            raise ConfigError(
                "training.prompts, training.teacher: give one of them; no teacher shows what prompts mean"
            )
        return student_model(teacher)
    return None if init is None else InitialModel.read(Path(init))


def _is_open(config: Config, device: Device) -> bool:
    """Returns whether the user left the size of the network to ``training.max_time``."""
    width = config.network.features or (None if device.is_cuda else config.planning.cpu_base_features)
    settings = config.training
    is_fixed = config.network.name == CUSTOM_NETWORK or (settings.init or settings.teacher) is not None
    return settings.fit_to_time and not is_fixed and width is None


def _in_time(candidates: Sequence[CandidatePlan], usual: Plan, budget: Budget) -> Plan:
    """Returns the largest plan that the budget pays for, looked for from the ``usual`` one on."""
    completed = {}

    def pays_for(candidate: CandidatePlan) -> bool:
        completed[candidate] = replace(candidate, plan=_completed(candidate.plan, budget.dataset, budget.config))
        return budget.pays_for(completed[candidate])

    begin = next(i for i, candidate in enumerate(candidates) if candidate.plan == usual)
    chosen = dearest_affordable(candidates, begin, pays_for)
    candidate = completed[chosen]
    if candidate in budget.tried:
        other = "" if chosen is candidates[begin] else "; training.fit_to_time chose width, patch and batch by that"
        say(f"A step took {budget.tried[candidate]:.2g} s where it was tried{other}")
    return candidate.plan


def _completed(plan: Plan, dataset: PreparedDataset, config: Config) -> Plan:
    """Returns the plan with regions, and with network, patch and batch of the user."""
    regions = regions_to_learn(dataset.labels, config.training.outputs)
    values, kinds = tuple(dataset.labels.instance_values), tuple(config.training.object_targets)
    objects = ObjectOutputs(values=values, targets=kinds) if values and kinds else None
    plan = with_prompts(with_network(plan, config), config).model_copy(update={"regions": regions, "objects": objects})
    if plan.architecture.name == CUSTOM_NETWORK:  # the user's module, of which nothing is known
        return plan
    network = build_network(len(dataset.record.channels), len(plan.outputs(dataset.labels)), plan.architecture)
    return fit_to_network(plan, network)
