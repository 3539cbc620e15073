"""package: a model as one file, as ONNX, or as a MONAI bundle."""

import json
import secrets
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import monai
import numpy as np
import torch

from medseg.device import choose_device
from medseg.errors import ConfigError, OutputError, did_you_mean, reading
from medseg.files import ensure_folder, write_json, write_text, written_whole
from medseg.inferers.exported import window_shape, write_onnx
from medseg.inferers.model import RECORD, Model, ModelRecord, load_model, model_folders, read_model_record
from medseg.inferers.windows import GAUSSIAN_SIGMA
from medseg.io.folders import is_hidden
from medseg.plan import Normalization
from medseg.workflows.finish import GOLDEN, LABEL_MAP, write_golden

PackageFormat = Literal["zip", "onnx", "monai-bundle"]


def package(model: str | Path, output: str | Path, *, format: str = "zip") -> Path:
    """Writes the model of a RUN, or a model folder, to ``output``.

    ``zip``: one file that ``predict`` takes as a model. ``onnx``: a folder with network.onnx (float32, windows of one
    shape, any number of them) and model.json, which says how images are prepared and labels made. ``monai-bundle``: a
    folder that ``python -m monai.bundle run --config_file configs/inference.json`` predicts with, without medseg.

    Raises ``ConfigError`` for another format, and for a model that it cannot hold; ``OutputError`` when ``output`` is
    there already, and is no zip of just that model.
    """
    if format not in get_args(PackageFormat):
        raise ConfigError(f"--format {format}: is not known{did_you_mean(format, get_args(PackageFormat))}")
    path = Path(output)
    if format == "zip":
        if path.suffix != ".zip":
            raise OutputError(f"{path}: a packaged model is named .zip")
        return _zip(Path(model), path)
    if path.exists():
        raise _is_there(path)
    loaded = load_model(Path(model), choose_device("cpu", "fp32"))
    with _written_folder(path) as folder:
        (_onnx if format == "onnx" else _bundle)(loaded, folder)
    return path


def _is_there(path: Path) -> OutputError:
    return OutputError(f"{path} is there already; remove it, or choose another -o")


def _zip(model: Path, path: Path) -> Path:
    """Where the same package is there already, as after a call that was killed at its very end, it stays."""
    if path.exists() and not zipfile.is_zipfile(path):
        raise _is_there(path)
    members = model_folders(model)
    folder = members[0] if len(members) == 1 else members[0].parent
    if not (folder / GOLDEN / LABEL_MAP).is_file():  # which is written last
        write_golden(load_model(folder, choose_device("cpu")), folder)
    with written_whole(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in _files(folder):
                place = f"{path.stem}/{file.relative_to(folder).as_posix()}"
                if file.name == RECORD:
                    content = read_model_record(file.parent).shareable().model_dump(mode="json")
                    archive.writestr(place, json.dumps(content, indent=1, ensure_ascii=False), zipfile.ZIP_DEFLATED)
                else:
                    archive.write(file, place)
        if path.exists() and _sums(path) != _sums(temporary):
            raise _is_there(path)
    return path


def _sums(package: Path) -> dict[str, int]:
    """The checksum of each member."""
    with reading(package, "a zip archive"), zipfile.ZipFile(package) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}


def _files(folder: Path) -> list[Path]:
    """All but hidden ones, which a call that was killed may have left half written."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in files if not any(map(is_hidden, file.relative_to(folder).parts)))


def _onnx(model: Model, folder: Path) -> None:
    write_onnx(model.network, _window(model), folder / "network.onnx", any_batch=True)
    content = model.record.shareable().model_dump(mode="json", exclude={"metrics"})
    network = {
        "file": "network.onnx",
        "input": "image, float32 (batch, channel, *spatial): a window",
        "output": f"logits, float32 (batch, output, *spatial); the outputs are {', '.join(model.record.outputs)}",
    }
    write_json(folder / "model.json", {**content, "network": network, "steps": steps(model)})


def steps(model: Model) -> list[str]:
    """How labels come out of an image, for who writes a program around the network."""
    record = model.record
    plan, grid = record.plan, record.plan.grid
    crop = ["crop to the box of voxels that are not 0 in any channel"] if grid.crop_to_nonzero else []
    rules = [f"label map: {rule}" for rule in record.postprocessing]
    return [
        f"image: axes to {grid.orientation}",
        *crop,
        *(f"channel {name}: {_in_words(rule)}" for name, rule in zip(record.channels, grid.normalization, strict=True)),
        f"resample to {'×'.join(f'{mm:g}' for mm in grid.spacing)} mm, cubic",
        f"windows of {'×'.join(map(str, plan.patch_size))} voxels that overlap by {record.inference.overlap:g}; logits "
        f"weighted by a Gaussian of {GAUSSIAN_SIGMA:g} of the edge",
        f"logits: resample to the grid of the image, linear; {_decoding_in_words(record)}",
        *rules,
        f"values: {dict(zip(record.labels.names, record.labels.values, strict=True))}",
    ]


def _decoding_in_words(record: ModelRecord) -> str:
    if not record.plan.regions:
        return "label i is the largest of the logits, 0 the background"
    written = ", ".join(f"{region.name} {region.value}" for region in record.plan.regions)
    return (
        "each is of a region, where the sigmoid is above .5, the logit above 0; label map: 0, then in this order each "
        f"region writes its label over what is there: {written}"
    )


def _in_words(rule: Normalization) -> str:
    if rule.kind == "ct":
        return f"clip to {rule.lower:g} … {rule.upper:g}, subtract {rule.mean:g}, divide by {rule.std:g}"
    if rule.kind == "zscore":
        return f"subtract the mean and divide by the deviation of {'voxels that are not 0' if rule.nonzero else 'all'}"
    return "as it is"


def _bundle(model: Model, folder: Path) -> None:
    """configs/metadata.json, configs/inference.json, models/network.pt2: torch.export's format, which holds no code of
    ours."""
    if model.record.plan.dims != 3:
        raise ConfigError("--format monai-bundle: holds 3D models only; take --format onnx")
    if any(getattr(model.network, "margin", ())):
        raise ConfigError("--format monai-bundle: holds no networks of valid convolutions; take --format onnx")
    with torch.no_grad():
        exported = torch.export.export(model.network, (_window(model),))
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # with the paths of this machine
    models, configs = ensure_folder(folder / "models"), ensure_folder(folder / "configs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that share memory are told of
        torch.export.save(exported, models / "network.pt2")
    write_json(configs / "metadata.json", _metadata(model))
    write_json(configs / "inference.json", _inference(model))
    lines = [f"# {model.name}", "", "Made by medseg. What it does:", "", *(f"* {step}" for step in steps(model))]
    write_text(folder / "docs" / "README.md", "\n".join(lines) + "\n")


def _window(model: Model) -> torch.Tensor:
    shape = window_shape(model.network, model.record.plan.network_patch)
    return torch.zeros(1, len(model.record.channels), *shape)


def _metadata(model: Model) -> dict[str, Any]:
    record = model.record
    shape = list(record.plan.patch_size)
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
    """What ``python -m monai.bundle run`` does: MONAI's own transforms and inferer, without medseg."""
    record, plan, grid = model.record, model.record.plan, model.record.plan.grid
    crop = [{"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}] if grid.crop_to_nonzero else []
    load = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "CopyItemsd", "keys": "image", "names": "source"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": grid.orientation, "labels": None},
        *crop,
        *_normalization(grid.normalization),
        {"_target_": "Spacingd", "keys": "image", "pixdim": list(grid.spacing), "mode": 3, "padding_mode": "nearest"},
    ]
    undo = [
        # Logits linearly, as medseg does; Invertd would take the splines that images are resampled by, for minutes.
        {"_target_": "ResampleToMatchd", "keys": "pred", "key_dst": "source", "mode": "bilinear",
         "padding_mode": "zeros"},
        *_decoding(record),
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
        "preprocessing": {"_target_": "Compose", "transforms": load},
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @images]", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(plan.patch_size),
            "sw_batch_size": 1,
            "overlap": record.inference.overlap,
            "mode": "gaussian",
            "sigma_scale": GAUSSIAN_SIGMA,
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


def _decoding(record: ModelRecord) -> list[dict[str, Any]]:
    """Logits to the values of the user's files."""
    values = record.labels.values
    if not record.plan.regions:
        pick: dict[str, Any] = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
    else:
        values = [values[region.value - 1] for region in record.plan.regions]
        # The number, from 1 on, of the last region that holds a voxel: it is the one that writes over the others.
        last = "$lambda x: ((x > 0) * torch.arange(1, len(x) + 1).view(-1, 1, 1, 1)).amax(0, keepdim=True)"
        pick = {"_target_": "Lambdad", "keys": "pred", "func": last}
    table = {"orig_labels": list(range(len(values) + 1)), "target_labels": [0, *values], "dtype": "$np.int16"}
    return [pick, {"_target_": "MapLabelValued", "keys": "pred", **table}]


def _normalization(rules: Sequence[Normalization]) -> list[dict[str, Any]]:
    """MONAI normalizes all channels by one rule. Raises ``ConfigError`` where they have several."""
    first = rules[0]
    if first.kind == "ct" and all(rule == first for rule in rules):
        ends = [(value - first.mean) / first.std for value in (first.lower, first.upper)]
        scale = {"a_min": first.lower, "a_max": first.upper, "b_min": ends[0], "b_max": ends[1], "clip": True}
        return [{"_target_": "ScaleIntensityRanged", "keys": "image", **scale}]
    if first.kind == "zscore" and all(rule == first for rule in rules):
        how = {"nonzero": first.nonzero, "channel_wise": True}
        return [{"_target_": "NormalizeIntensityd", "keys": "image", **how}]
    if all(rule.kind == "none" for rule in rules):
        return []
    raise ConfigError("--format monai-bundle: cannot normalize channels by different rules; take --format onnx")


@contextmanager
def _written_folder(path: Path) -> Iterator[Path]:
    """A folder that appears whole or not at all."""
    temporary = ensure_folder(path.absolute().parent / f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
