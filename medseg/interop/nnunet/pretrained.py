"""Weights to begin with: a checkpoint of nnU-Net v2, or the encoder that nnssl has trained without labels."""

from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field

from medseg.architecture import Architecture
from medseg.errors import ModelError
from medseg.interop.nnunet.importer import NnunetChoice
from medseg.interop.nnunet.network import architecture_of, cleaned, norm_of, translated
from medseg.interop.nnunet.plan import AxisOrder
from medseg.interop.nnunet.plans import ADVICE, AXES, NetworkArguments, NetworkPlan
from medseg.interop.nnunet.trained_folder import FOLD, CheckpointName, TrainedFolder, is_trained_folder
from medseg.records import validated
from medseg.weights import Tensors, read_torch_file

SUFFIXES = (".pth", ".pt")
ADAPTATION = "nnssl_adaptation_plan"

# Wald et al. 2025, arXiv:2410.23132. The encoder of the form without skips is the same.
RES_ENC_L = NetworkPlan(
    network_class_name="ResidualEncoderUNet",
    arch_kwargs=NetworkArguments(
        n_stages=6,
        features_per_stage=(32, 64, 128, 256, 320, 320),
        kernel_sizes=3,
        strides=((1, 1, 1), *((2, 2, 2),) * 5),
        n_blocks_per_stage=(1, 3, 4, 6, 6, 6),
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op="InstanceNorm3d",
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin="LeakyReLU",
    ),
)
PRESETS = {"ResEncL": RES_ENC_L, "NoSkipResEncL": RES_ENC_L}


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _ArchitecturePlan(_Read):
    arch_class_name: str
    arch_kwargs: dict[str, Any] | None = None


class _AdaptationPlan(_Read):
    """What nnssl says of its network."""

    architecture_plans: _ArchitecturePlan
    pretrain_plan: dict[str, Any] = {}
    pretrain_num_input_channels: int = Field(1, ge=1, le=1024)
    key_to_encoder: str = "encoder.stages"
    key_to_stem: str = "encoder.stem"


class Encoder(NamedTuple):
    """An encoder that was trained without labels, in the names of medseg's network."""

    architecture: Architecture
    weights: Tensors
    channels: tuple[str, ...]
    spacing: tuple[float, ...] | None


def is_checkpoint(path: Path) -> bool:
    """Returns whether it is a file of ``torch.save``, by its name."""
    return path.suffix in SUFFIXES and path.is_file()


def trained_with(path: Path) -> tuple[TrainedFolder | None, NnunetChoice]:
    """Returns the trained folder of nnU-Net that a checkpoint lies in, and how it is chosen there; None: in none."""
    fold, name = FOLD.fullmatch(path.parent.name), path.stem.removeprefix("checkpoint_")
    folder = path.parent.parent
    if fold is None or name not in get_args(CheckpointName) or not is_trained_folder(folder):
        return None, NnunetChoice()
    return TrainedFolder(folder), NnunetChoice(folds=(fold[1],), checkpoint=name)  # type: ignore[arg-type]


def read_encoder(path: Path) -> Encoder:
    """Returns the encoder in a checkpoint of nnssl. No code of it is run.

    Raises:
        ModelError: It is damaged, of something else, or of a network that medseg has not.
    """
    content = read_torch_file(path, ADVICE, ModelError)
    if not isinstance(content, dict) or not {"network_weights", ADAPTATION} <= content.keys():
        raise ModelError(
            f"{path}: is no checkpoint of nnssl, and lies in no trained folder of nnU-Net v2 (which has plans.json and "
            "dataset.json two folders above); give the folder of a model"
        )
    told = validated(content[ADAPTATION], _AdaptationPlan, path, ADVICE, ModelError)
    plan, order = _network(told.architecture_plans, path), AxisOrder(AXES, (0, 1, 2))
    weights = {_renamed(name, told): tensor for name, tensor in cleaned(content["network_weights"], str(path)).items()}
    architecture = architecture_of(plan, order.seen, norm_of(weights), f"{path} (nnssl)")
    channels = told.pretrain_num_input_channels
    state = translated(weights, architecture, order.seen, (channels, 1), f"{path} (nnssl)", only="encoder.")
    return Encoder(architecture, state, tuple(f"input {i}" for i in range(channels)), _spacing(told, order))


def _network(told: _ArchitecturePlan, path: Path) -> NetworkPlan:
    if told.arch_kwargs:
        content = {"network_class_name": told.arch_class_name, "arch_kwargs": told.arch_kwargs}
        return validated(content, NetworkPlan, path, ADVICE, ModelError)
    if told.arch_class_name not in PRESETS:
        raise ModelError(
            f"{path}: its network is a {told.arch_class_name[:80]}, and medseg has only {', '.join(PRESETS)}"
        )
    return PRESETS[told.arch_class_name]


def _renamed(name: str, told: _AdaptationPlan) -> str:
    """Returns the name of a tensor of the encoder as nnU-Net has it."""
    for key, peer in ((told.key_to_stem, "encoder.stem"), (told.key_to_encoder, "encoder.stages")):
        if name.startswith(f"{key}."):
            return peer + name[len(key) :]
    return name


def _spacing(told: _AdaptationPlan, order: AxisOrder) -> tuple[float, ...] | None:
    configurations = told.pretrain_plan.get("configurations")
    first = next(iter(configurations.values()), None) if isinstance(configurations, dict) else None
    spacing = first.get("spacing") if isinstance(first, dict) else None
    if not isinstance(spacing, list | tuple) or len(spacing) != AXES:
        return None
    numbers = [float(mm) for mm in spacing if isinstance(mm, int | float) and mm > 0]
    return tuple(order.in_space(numbers, 1.0)) if len(numbers) == AXES else None
