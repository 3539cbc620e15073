"""plans.json and dataset.json of nnU-Net v2, as it reads them: medseg's plan and labels in its words."""

import re
from collections.abc import Sequence
from math import prod
from typing import Any

from medseg.errors import ConfigError
from medseg.inferers.model_record import ModelRecord
from medseg.interop.nnunet.network import NETWORKS
from medseg.interop.nnunet.plan import INTERPOLATIONS, LARGEST_GREY, PREPROCESSOR, SPLINE, TORCH, AxisOrder
from medseg.networks.unet import NEGATIVE_SLOPE
from medseg.plan import STORED, Normalization, Plan, Resampling
from medseg.weights import Tensors

FORMAT = "--format nnunet"
PLANS_NAME = "nnUNetPlans"

# The reader of nnU-Net that has the axes point as the grid's.
READERS = {STORED: "SimpleITKIO", "RAS": "NibabelIOWithReorient"}

CLASSES = {ours: theirs for theirs, ours in NETWORKS.items()}
PACKAGE = "dynamic_network_architectures.architectures.unet"


def axis_order(plan: Plan) -> AxisOrder:
    """Returns the axes in nnU-Net's order: (z, y, x), in 2D with the slices first."""
    first = () if plan.slice_axis is None else (2 - plan.slice_axis,)
    return AxisOrder(plan.dims, (*first, *(axis for axis in range(3) if axis not in first)))


def configuration_of(record: ModelRecord, order: AxisOrder, weights: Tensors) -> dict[str, Any]:
    """Returns the plan in nnU-Net's words."""
    plan, grid = record.plan, record.plan.grid
    images, labels, logits = (_resampling(grid.resampling, kind) for kind in ("image", "label_map", "logits"))
    median = plan.median_shape or plan.patch_size
    return {
        "data_identifier": f"{PLANS_NAME}_{plan.dims}d",
        "preprocessor_name": PREPROCESSOR,
        "batch_size": plan.batch_size,
        "patch_size": _along(order, fitting_patch(plan)),
        "median_image_size_in_voxels": [float(n) for n in _along(order, median)],
        "spacing": _along(order, grid.spacing),
        "normalization_schemes": [_scheme(rule) for rule in grid.normalization],
        "use_mask_for_norm": [rule.kind == "zscore" and rule.nonzero for rule in grid.normalization],
        **{f"resampling_fn_{name}": _function(grid.resampling) for name in ("data", "seg", "probabilities")},
        "resampling_fn_data_kwargs": images,
        "resampling_fn_seg_kwargs": labels,
        "resampling_fn_probabilities_kwargs": logits,
        "batch_dice": False,
        "architecture": _architecture(plan, order, weights),
    }


def _along(order: AxisOrder, numbers: Sequence[Any]) -> list[Any]:
    """Returns numbers of (x, y, z) for the axes that nnU-Net's network sees."""
    return [numbers[order.axis(i)] for i in range(order.dims)]


def fitting_patch(plan: Plan) -> tuple[int, ...]:
    """Returns the patch, or the next larger one that the network's strides divide."""
    strides = plan.in_space([prod(axis) for axis in zip(*plan.architecture.strides, strict=True)], 1)
    return tuple(-(-n // stride) * stride for n, stride in zip(plan.patch_size, strides, strict=True))


def _function(resampling: Resampling) -> str:
    return TORCH if resampling.rule == "nnunet" and resampling.interpolation == "linear" else SPLINE


def _resampling(resampling: Resampling, kind: str) -> dict[str, Any]:
    """Returns the arguments of nnU-Net's function."""
    separate = resampling.separate_z if resampling.rule == "nnunet" else None
    if _function(resampling) == TORCH:
        return {"is_seg": kind == "label_map", "force_separate_z": separate, "memefficient_seg_resampling": False}
    order = {name: number for number, name in INTERPOLATIONS.items()}[resampling.interpolation]
    return {
        "is_seg": kind == "label_map",
        "order": order if kind == "image" else 1,
        "order_z": 0,
        "force_separate_z": separate,
    }


def _scheme(rule: Normalization) -> str:
    if rule.rescaled == (0.0, 1.0) and rule.kind == "none":
        return "RescaleTo01Normalization"
    if rule.kind == "linear" and (rule.mean, rule.std, rule.rescaled) == (0, LARGEST_GREY, None):
        return "RGBTo01Normalization"
    schemes = {"zscore": "ZScoreNormalization", "ct": "CTNormalization", "none": "NoNormalization"}
    if rule.kind not in schemes or rule.rescaled is not None:
        raise ConfigError(f"{FORMAT}: nnU-Net has no normalization '{rule.kind}' as this model's; take --format zip")
    return schemes[rule.kind]


def _architecture(plan: Plan, order: AxisOrder, weights: Tensors) -> dict[str, Any]:
    """Returns nnU-Net's class and its arguments; what each stage holds is counted in the weights."""
    architecture, dims = plan.architecture, order.dims
    residual = CLASSES[architecture.name] == "ResidualEncoderUNet"
    inner = r"blocks\.(\d+)\.conv1\.conv" if residual else r"0\.convs\.(\d+)\.conv"
    kernels, strides = (
        [[each[order.seen.index(axis)] for axis in range(dims)] for each in stages]
        for stages in (architecture.kernel_sizes, architecture.strides)
    )
    norms = [name for name in weights if ".norm." in name]
    if not norms:
        raise ConfigError(f"{FORMAT}: nnU-Net has no network without a norm; take --format zip or onnx")
    batch = any(name.endswith("running_mean") for name in norms)
    norm = f"torch.nn.modules.{'batchnorm.BatchNorm' if batch else 'instancenorm.InstanceNorm'}{dims}d"
    slope = architecture.arguments.get("negative_slope", NEGATIVE_SLOPE)
    return {
        "network_class_name": f"{PACKAGE}.{CLASSES[architecture.name]}",
        "arch_kwargs": {
            "n_stages": len(architecture.features),
            "features_per_stage": list(architecture.features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": kernels,
            "strides": strides,
            f"n_{'blocks' if residual else 'conv'}_per_stage": _counts(weights, rf"encoder\.stages\.(\d+)\.{inner}"),
            "n_conv_per_stage_decoder": _counts(weights, r"decoder\.stages\.(\d+)\.convs\.(\d+)\.conv"),
            "conv_bias": any(name.endswith(".conv.bias") for name in weights),
            "norm_op": norm,
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True, "negative_slope": slope},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _counts(weights: Tensors, pattern: str) -> list[int]:
    """Returns how many convolutions or blocks each stage has, by the names of their weights."""
    found = [match for name in weights if (match := re.fullmatch(rf"{pattern}\.weight", name))]
    stages = [int(match[1]) for match in found]
    return [stages.count(stage) for stage in range(max(stages) + 1)]


def plans_of(record: ModelRecord, order: AxisOrder, dataset: str, configurations: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of plans.json."""
    grid, median = record.plan.grid, record.plan.median_shape or record.plan.patch_size
    return {
        "dataset_name": dataset,
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": [float(grid.spacing[2 - axis]) for axis in order.transpose],
        "original_median_shape_after_transp": [int(median[2 - axis]) for axis in order.transpose],
        "image_reader_writer": READERS[grid.orientation],
        "transpose_forward": list(order.transpose),
        "transpose_backward": [order.transpose.index(axis) for axis in range(3)],
        "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): _intensities(rule) for channel, rule in enumerate(grid.normalization)
        },
    }


def _intensities(rule: Normalization) -> dict[str, float]:
    """Returns what CTNormalization reads; the median and the extremes, which nothing reads, are set to what fits."""
    return {
        "mean": rule.mean, "median": rule.mean, "std": rule.std, "min": rule.lower, "max": rule.upper,
        "percentile_00_5": rule.lower, "percentile_99_5": rule.upper,
    }  # fmt: skip


def dataset_of(record: ModelRecord) -> dict[str, Any]:
    """Returns the content of dataset.json: labels are network values, since nnU-Net writes these into its masks."""
    labels, regions = record.labels, record.plan.regions
    named: dict[str, Any] = {"background": 0}
    if regions:
        named |= {region.name: list(region.values) for region in regions}
    else:
        named |= {name: value for value, name in enumerate(labels.names, start=1)}
    if labels.ignore is not None:
        named["ignore"] = len(labels.items) + 1
    order = {"regions_class_order": [region.value for region in regions]} if regions else {}
    cases = record.provenance.get("training_cases")
    return {
        "channel_names": {str(i): name for i, name in enumerate(record.channels)},
        "labels": named,
        **order,
        "numTraining": cases if isinstance(cases, int) else 0,
        "file_ending": ".nii.gz",
        "description": f"Made by medseg {record.medseg}",
    }
