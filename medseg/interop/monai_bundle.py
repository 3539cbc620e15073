"""A model as a bundle of MONAI: its network, and MONAI's own transforms and inferer around it."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

from medseg.errors import ConfigError
from medseg.files import ensure_folder, write_json, write_text
from medseg.inferers.model import Model, copy_models
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.windows import window_of, window_overlap
from medseg.interop.onnx_folder import example_window, steps
from medseg.plan import MEDSEG_RESAMPLING, STORED, Grid, Normalization, Plan
from medseg.progress import warn

SPLINES = {"nearest": "nearest", "linear": "bilinear", "cubic": 3}
CROP = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}


def write_monai_bundle(model: Model, folder: Path) -> None:
    """Writes a bundle that ``python -m monai.bundle run`` predicts with, without medseg.

    It has configs/metadata.json, configs/inference.json, and models/network.pt2: torch.export's format, which holds no
    code of ours. In models/ lies the model itself as well, which ``medseg import`` brings back the same.

    Args:
        model: A model of a 3D network; it is on the CPU, in float32.
        folder: An empty folder.

    Raises:
        ConfigError: A bundle cannot hold this model: its network is 2D or has valid convolutions, or its channels are
            normalized by different rules.
    """
    if model.record.plan.dims != 3:
        raise ConfigError("--format monai-bundle: holds 3D models only; take --format onnx")
    if any(getattr(model.network, "margin", ())):
        raise ConfigError("--format monai-bundle: holds no networks of valid convolutions; take --format onnx")
    if not _says_all(model.record.plan):
        raise ConfigError("--format monai-bundle: cannot prepare cases as this model needs them; take --format onnx")
    if model.record.plan.objects is not None:
        raise ConfigError("--format monai-bundle: holds no models that tell objects apart; take --format onnx")
    with torch.no_grad():
        exported = torch.export.export(model.network, (example_window(model),))
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # with the paths of this machine
    models, configs = ensure_folder(folder / "models"), ensure_folder(folder / "configs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that share memory are told of
        torch.export.save(exported, models / "network.pt2")
    copy_models(model.folders, models)
    write_json(configs / "metadata.json", _metadata(model))
    write_json(configs / "inference.json", _inference(model))
    lines = [f"# {model.name}", "", "Made by medseg. What it does:", "", *(f"* {step}" for step in steps(model))]
    write_text(folder / "docs" / "README.md", "\n".join(lines) + "\n")


def _says_all(plan: Plan) -> bool:
    """Returns whether a bundle can say how cases are prepared: by MONAI's rules, or by medseg's, which come close."""
    grid = plan.grid
    ruled = grid.resampling.rule == "monai" or grid.resampling == MEDSEG_RESAMPLING
    own = grid.fill_holes or grid.resampling.whole_numbers or plan.windows.rule != "monai"
    monai_has = all(hasattr(monai.transforms, str(spec.get("name"))) for spec in grid.transforms)  # and not a plugin
    return ruled and monai_has and not own


def _arguments(spec: Mapping[str, object]) -> dict[str, object]:
    """Returns the arguments of a transform of the plan."""
    return {key: value for key, value in spec.items() if key != "name"}


def _metadata(model: Model) -> dict[str, Any]:
    record = model.record
    shape = list(window_of(model.network, record.plan, record.inference))
    return {
        "version": "1.0.0",
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__,
        "numpy_version": np.__version__,
        "required_packages_version": {"nibabel": "5.4.2", "pytorch-ignite": "0.5.5", "fire": "0.7.1"},
        "name": model.name,
        "task": f"Segmentation of {', '.join(record.labels.unions)}",
        "description": f"Trained with medseg {record.medseg}",
        "authors": "",
        "copyright": "",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": len(record.channels),
                    "spatial_shape": shape,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": {str(i): name for i, name in enumerate(record.channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": len(record.outputs),
                    "spatial_shape": shape,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": {str(i): name for i, name in enumerate(record.outputs)},
                }
            },
        },
    }


def _inference(model: Model) -> dict[str, Any]:
    """Returns what ``python -m monai.bundle run`` does: MONAI's own transforms and inferer, without medseg."""
    record, plan = model.record, model.record.plan
    undo = [
        *_restoring(record),
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "",
         "separate_folder": False, "resample": False, "output_dtype": "$np.int16"},
    ]  # fmt: skip
    return {
        "imports": ["$import glob", "$import numpy as np", "$import torch"],
        "bundle_root": ".",
        "input_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "images": "$sorted(glob.glob(@input_dir + '/*.nii.gz'))",
        "network_def": "$torch.export.unflatten(torch.export.load(@bundle_root + '/models/network.pt2'))",
        "preprocessing": {"_target_": "Compose", "transforms": _preparing(plan.grid)},
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @images]", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(window_of(model.network, plan, record.inference)),
            "sw_batch_size": 1,
            "overlap": window_overlap(record.inference),
            "mode": plan.windows.weighting,
            "sigma_scale": plan.windows.sigma,
            "padding_mode": plan.windows.padding,
        },
        "postprocessing": {"_target_": "Compose", "transforms": undo},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "cpu",
            "val_data_loader": "@dataloader",
            "network": "@network_def",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "initialize": ["$torch.set_grad_enabled(False)"],
        "run": ["$@evaluator.run()"],
    }


def _preparing(grid: Grid) -> list[dict[str, Any]]:
    """Returns MONAI's transforms from a file to the model grid, in the order of the plan."""
    turn = {"_target_": "Orientationd", "keys": "image", "axcodes": grid.orientation, "labels": None}
    values = _normalization(grid.normalization)
    zoom = _resampling(grid)
    crop = [CROP] if grid.crop_to_nonzero else []
    return [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "CopyItemsd", "keys": "image", "names": "source"},
        *([] if grid.orientation == STORED else [turn]),
        *([*zoom, *crop, *values] if grid.resample_first else [*crop, *values, *zoom]),
        *({"_target_": spec["name"], **_arguments(spec), "allow_missing_keys": True} for spec in grid.transforms),
        *([CROP] if grid.crop_last else []),
    ]


def _resampling(grid: Grid) -> list[dict[str, Any]]:
    """Returns the step that resamples images; none where all axes keep their spacing."""
    pixdim = [mm or 0.0 for mm in grid.wanted_spacing]  # MONAI keeps the spacing where it is 0
    if not any(pixdim):
        return []
    mode = SPLINES[grid.resampling.interpolation]
    return [{"_target_": "Spacingd", "keys": "image", "pixdim": pixdim, "mode": mode, "padding_mode": "nearest"}]


def _restoring(record: ModelRecord) -> list[dict[str, Any]]:
    """Returns the steps from logits to a label map on the grid of the source, as the plan brings them back."""
    restored = record.plan.grid.resampling.restored
    mode, padding = ("nearest", "border") if restored == "labels" else ("bilinear", "zeros")
    # Logits linearly, as medseg does; Invertd would take the splines that images are resampled by, for minutes.
    back = {"_target_": "ResampleToMatchd", "keys": "pred", "key_dst": "source", "mode": mode, "padding_mode": padding}
    last = [*_rules(record, on_model_grid=False), _values(record)]
    if restored == "labels":
        return [_decoding(record.plan), *_rules(record, on_model_grid=True), back, *last]
    how = {"sigmoid": True} if record.plan.regions else {"softmax": True}
    soft = [{"_target_": "Activationsd", "keys": "pred", **how}] if restored == "probabilities" else []
    return [*soft, back, _decoding(record.plan), *last]


def _decoding(plan: Plan) -> dict[str, Any]:
    """Returns the step from what the outputs say to their numbers: of labels, or of regions from 1 on."""
    if not plan.regions:
        return {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
    least = 0.5 if plan.grid.resampling.restored == "probabilities" else 0
    # The number, from 1 on, of the last region that holds a voxel: it is the one that writes over the others.
    count = "torch.arange(1, len(x) + 1).view(-1, 1, 1, 1)"
    return {
        "_target_": "Lambdad",
        "keys": "pred",
        "func": f"$lambda x: ((x > {least}) * {count}).amax(0, keepdim=True)",
    }


def _values(record: ModelRecord) -> dict[str, Any]:
    """Returns the step from these numbers to the values of the user's files."""
    values = record.labels.values
    if record.plan.regions:
        values = [values[region.value - 1] for region in record.plan.regions]
    table = {"orig_labels": list(range(len(values) + 1)), "target_labels": [0, *values], "dtype": "$np.int16"}
    return {"_target_": "MapLabelValued", "keys": "pred", **table}


def _rules(record: ModelRecord, on_model_grid: bool) -> list[dict[str, Any]]:
    """Returns the rules of postprocessing that MONAI has a step for; the others are told of."""
    steps: list[dict[str, Any]] = []
    for rule in record.postprocessing:
        if rule.on_model_grid is not on_model_grid:
            continue
        if record.plan.regions or rule.together or rule.min_volume_ml:
            warn(f"the bundle leaves out what MONAI has no step for: {rule}")
            continue
        which = {"keys": "pred", "applied_labels": [record.labels.names.index(rule.label) + 1]}
        if rule.fill_holes:
            steps.append({"_target_": "FillHolesd", **which})
        if rule.largest_component:
            faces = {"connectivity": 1} if rule.connectivity == 6 else {}
            steps.append({"_target_": "KeepLargestConnectedComponentd", **which, **faces})
    return steps


def _normalization(rules: Sequence[Normalization]) -> list[dict[str, Any]]:
    """Returns the normalization of all channels, which MONAI does by one rule.

    Raises:
        ConfigError: They have several.
    """
    first = rules[0]
    if any(rule != first for rule in rules):
        raise ConfigError("--format monai-bundle: cannot normalize channels by different rules; take --format onnx")
    steps: list[dict[str, Any]] = []
    if first.kind in ("ct", "linear"):
        ends = (first.lower, first.upper) if first.kind == "ct" else (first.mean, first.mean + first.std)
        low, high = ((value - first.mean) / first.std for value in ends)
        scale = {"a_min": ends[0], "a_max": ends[1], "b_min": low, "b_max": high, "clip": first.kind == "ct"}
        steps.append({"_target_": "ScaleIntensityRanged", "keys": "image", **scale})
    elif first.kind == "zscore":
        how = {"nonzero": first.nonzero, "channel_wise": True}
        steps.append({"_target_": "NormalizeIntensityd", "keys": "image", **how})
    if first.rescaled is not None:
        low, high = first.rescaled
        steps.append({"_target_": "ScaleIntensityd", "keys": "image", "minv": low, "maxv": high, "channel_wise": True})
    return steps
