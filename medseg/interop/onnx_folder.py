"""A model as ONNX: the network, and in words and numbers all that is done before and after it."""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from medseg.inferers.graphs import write_onnx
from medseg.inferers.model import Model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.windows import Layout, window_of
from medseg.plan import STORED, Grid, Normalization
from medseg.records import Record, write_record


class OnnxNetwork(Record):
    """The file of a network, and in words what goes in and what comes out."""

    file: str
    input: str
    output: str


class OnnxModelRecord(ModelRecord):
    """model.json beside network.onnx: that of the model without its metrics, the network, and all steps in words."""

    metrics: dict[str, Any] = Field(default_factory=dict, exclude=True)
    network: OnnxNetwork
    steps: tuple[str, ...]


def write_onnx_folder(model: Model, folder: Path) -> None:
    """Writes a model for ONNX Runtime and other programs: network.onnx and model.json.

    Args:
        model: What is written; it is on the CPU, in float32.
        folder: An empty folder.

    Raises:
        ConfigError: onnx or onnxscript is not installed.
    """
    write_onnx(model.network, example_window(model), folder / "network.onnx", any_batch=True)
    outputs = ", ".join(model.record.outputs)
    network = OnnxNetwork(
        file="network.onnx",
        input="image, float32 (batch, channel, *spatial): a window",
        output=f"logits, float32 (batch, output, *spatial); the outputs are {outputs}",
    )
    record = OnnxModelRecord(**dict(model.record.shareable()), network=network, steps=tuple(steps(model)))
    write_record(folder / "model.json", record)


def example_window(model: Model) -> torch.Tensor:
    """Returns zeros (1, channel, *spatial) of the shape of what the network sees at once."""
    shape = window_of(model.network, model.record.plan, model.record.inference)
    return torch.zeros(1, len(model.record.channels), *shape)


def steps(model: Model) -> list[str]:
    """Returns how labels come out of an image, step by step, for who writes a program around the network."""
    record = model.record
    plan, grid = record.plan, record.plan.grid
    crop = ["crop to the box of voxels that are not 0 in any channel"] if grid.crop_to_nonzero else []
    channels = zip(record.channels, grid.normalization, strict=True)
    values = [*crop, *(f"channel {name}: {_in_words(rule, grid.fill_holes)}" for name, rule in channels)]
    resampled = _resampling_in_words(grid)
    largest = plan.in_space(window_of(model.network, plan, record.inference), 1)
    windows = Layout.of(model.network, plan, largest, record.inference)
    rules = [f"label map: {rule}" for rule in record.postprocessing]
    weighted = f"weighted by a Gaussian of {plan.windows.sigma:g} of the edge"
    return [
        "image: axes as they are in the file" if grid.orientation == STORED else f"image: axes to {grid.orientation}",
        *([resampled, *values] if grid.resample_first else [*values, resampled]),
        *(f"image: {spec.get('name')} of MONAI or a plugin, as model.json says" for spec in grid.transforms),
        *(["crop to the box of voxels that are above 0 in any channel"] if grid.crop_last else []),
        f"windows of {'×'.join(map(str, windows.patch_size))} voxels that overlap by {windows.overlap:g}; logits "
        f"{weighted if plan.windows.weighting == 'gaussian' else 'weighted all alike'}",
        _back_in_words(record),
        *rules,
        f"values: {dict(zip(record.labels.names, record.labels.values, strict=True))}",
    ]


def _resampling_in_words(grid: Grid) -> str:
    edges = ("its own" if mm is None else f"{mm:g}" for mm in grid.wanted_spacing)
    by = grid.resampling
    whose = {"medseg": "", "nnunet": ", as nnU-Net does", "monai": ", as MONAI's Spacingd does"}
    how = whose.get(by.rule, ", as scipy.ndimage.zoom does")
    whole = "; leave out fractions" if by.whole_numbers else ""
    return f"resample to {'×'.join(edges)} mm, {by.interpolation}{how}{whole}"


def _back_in_words(record: ModelRecord) -> str:
    by = record.plan.grid.resampling
    if by.restored == "labels":
        return f"{_decoding_in_words(record)}; label map: resample to the grid of the image, nearest"
    return f"{by.restored}: resample to the grid of the image, linear; {_decoding_in_words(record)}"


def _decoding_in_words(record: ModelRecord) -> str:
    objects = record.plan.objects
    if objects is not None:
        of_labels = record.model_copy(update={"plan": record.plan.model_copy(update={"objects": None})})
        last = f"the last {len(objects.targets)} of them ({', '.join(objects.targets)}) tell objects apart, by sigmoids"
        return f"{last}; of the others {_decoding_in_words(of_labels)}"
    if not record.plan.regions:
        return "label i is the largest of the logits, 0 the background"
    written = ", ".join(f"{region.name} {region.value}" for region in record.plan.regions)
    return (
        "each is of a region, where the sigmoid is above .5, the logit above 0; label map: 0, then in this order each "
        f"region writes its label over what is there: {written}"
    )


def _in_words(rule: Normalization, fill_holes: bool) -> str:
    rescaled = rule.rescaled and "scale the lowest and the highest value to {:g} and {:g}".format(*rule.rescaled)
    linear = f"subtract {rule.mean:g}, divide by {rule.std:g}"
    nonzero = "voxels that are not 0 in all channels, holes filled" if fill_holes else "voxels that are not 0"
    steps = {
        "ct": f"clip to {rule.lower:g} … {rule.upper:g}, {linear}",
        "linear": linear,
        "zscore": f"subtract the mean and divide by the deviation of {nonzero if rule.nonzero else 'all'}",
    }
    return ", ".join(filter(None, (steps.get(rule.kind), rescaled))) or "as it is"
