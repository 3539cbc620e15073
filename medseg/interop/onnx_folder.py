"""A model as ONNX: the network, and in words and numbers all that is done before and after it."""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from medseg.inferers.graphs import window_shape, write_onnx
from medseg.inferers.model import Model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.windows import GAUSSIAN_SIGMA
from medseg.plan import Normalization
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
    shape = window_shape(model.network, model.record.plan.network_patch)
    return torch.zeros(1, len(model.record.channels), *shape)


def steps(model: Model) -> list[str]:
    """Returns how labels come out of an image, step by step, for who writes a program around the network."""
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
