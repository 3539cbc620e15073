"""A run folder: what is decided at its start and never changes, so that it can be resumed.

RUN/config.yaml    the resolved settings
    run.json       the plan, the split, the prepared folder
    checkpoint/    last.safetensors
    log.csv, events/, progress.png
    model/         the weights with the best validation Dice; model-last/ those of the last step
    validation/    masks and metrics of the cases that were not trained on
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from medseg.config import Config, load
from medseg.dataset.splits import Split, split_fold
from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.errors import ConfigError, TrainingError
from medseg.files import ensure_folder, write_json, write_text
from medseg.networks.network import Network
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.planning.derive import fit_to_cpu, take_chosen_patch


class RunRecord(BaseModel):
    """run.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prepared: str
    plan: Plan
    training: tuple[str, ...]
    validation: tuple[str, ...]


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
        return self.folder / "checkpoint" / "last.safetensors"

    def write(self) -> None:
        """What ``reopen_run`` reads."""
        write_text(self.folder / "config.yaml", self.config.to_yaml())
        record = RunRecord(
            prepared=str(self.dataset.folder.resolve()),
            plan=self.plan,
            training=self.split.training,
            validation=self.split.validation,
        )
        write_json(self.folder / "run.json", record.model_dump(mode="json"))


def start_run(folder: Path, dataset: PreparedDataset, dims: Literal[2, 3], config: Config, device: Device) -> Run:
    """Decides plan and split; ``Run.write`` writes them down, once the network could be built. Raises
    ``TrainingError`` when the folder holds a run already."""
    if (folder / "run.json").exists():
        raise TrainingError(f"{folder} holds a run already; go on with it by --resume, or choose another -o")
    plan = resolve_plan(dataset, dims, config, device)
    groups = {case_id: case.group for case_id, case in dataset.cases.items()}
    split = split_fold(groups, config.training.fold, config.training.folds)
    return Run(ensure_folder(folder), config, plan, split, dataset)


def reopen_run(folder: Path, dataset: PreparedDataset) -> Run:
    """The run as it was started. Raises ``TrainingError`` when there is none, or when its cases are gone."""
    path = folder / "run.json"
    try:
        record = RunRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TrainingError(f"{folder} holds no run to resume; start one without --resume") from error
    except (ValueError, ValidationError) as error:
        raise TrainingError(f"{path}: is damaged; start a new run in another folder") from error
    gone = sorted({*record.training, *record.validation} - set(dataset.cases))
    if gone:
        raise TrainingError(f"{dataset.folder} has no case '{gone[0]}', which the run in {folder} uses")
    split = Split(record.training, record.validation)
    return Run(folder, load([folder / "config.yaml"]), record.plan, split, dataset)


def resolve_plan(dataset: PreparedDataset, dims: Literal[2, 3], config: Config, device: Device) -> Plan:
    """The dataset's plan for this device with the user's changes."""
    plan = dataset.plans.plan_2d if dims == 2 else dataset.plans.plan_3d
    if plan is None:
        raise ConfigError(f"{dataset.folder} holds 2D images, or volumes of too few slices; train with --dims 2")
    if not device.is_cuda:
        plan = fit_to_cpu(plan, config)
    plan = with_network(plan, config)
    network = build_network(len(dataset.record.channels), dataset.labels.n_outputs, plan.architecture)
    return with_margin(plan, network)


def with_network(plan: Plan, config: Config) -> Plan:
    """The plan with the network, the patch and the batch of the user."""
    plan = take_chosen_patch(plan, config)
    if config.training.batch_size is not None:
        plan = plan.model_copy(update={"batch_size": config.training.batch_size})
    changes: dict[str, object] = {
        "name": config.network.name,
        "deep_supervision": config.network.deep_supervision,
        "convolutions_per_stage": config.network.convolutions_per_stage,
        "arguments": config.network.arguments,
    }
    if config.network.features is not None:
        stages = len(plan.architecture.strides)
        if len(config.network.features) != stages:
            raise ConfigError(
                f"network.features has {len(config.network.features)} numbers, the plan has {stages} stages "
                f"(features {list(plan.architecture.features)})"
            )
        changes["features"] = tuple(config.network.features)
    return plan.model_copy(update={"architecture": plan.architecture.model_copy(update=changes)})


def with_margin(plan: Plan, network: Network) -> Plan:
    """Where the network gives the logits of the centre, with a patch whose centre is the plan's, so that all networks
    learn from equally many voxels."""
    wanted = [n + 2 * lost for n, lost in zip(plan.network_patch, network.margin, strict=True)]
    return plan.model_copy(update={"patch_size": plan.in_space(network.fitting_shape(wanted), 1)})
