"""A model as a trained folder of nnU-Net v2, for ``nnUNetv2_predict`` and programs that run it, as SlicerNNUnet."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from medseg.errors import ConfigError, ModelError
from medseg.files import ensure_folder, write_json, written_whole
from medseg.inferers.model import Model
from medseg.inferers.model_record import COPY, WEIGHTS, ModelRecord
from medseg.inferers.windows import window_overlap
from medseg.interop.nnunet.network import tensor_name
from medseg.interop.nnunet.plan import AxisOrder
from medseg.interop.nnunet.plans_writer import (
    CLASSES,
    FORMAT,
    PLANS_NAME,
    READERS,
    axis_order,
    configuration_of,
    dataset_of,
    fitting_patch,
    plans_of,
)
from medseg.plan import Plan
from medseg.progress import warn
from medseg.weights import Tensors, read_tensors

TRAINER = "nnUNetTrainer"
# nnU-Net's datasets have a number of three digits; those that it came with end before this one.
DATASET_NUMBER = 900

STEP = 0.5  # of windows, as part of the patch: nnUNetv2_predict's own

HEAD = re.compile(r"decoder\.seg_layers\.(\d+)\.(\w+)")


def write_nnunet_folder(model: Model, folder: Path) -> None:
    """Writes a model as nnU-Net v2 keeps trained ones: ``DatasetNNN_NAME/nnUNetTrainer__nnUNetPlans__CONFIGURATION``.

    ``folder`` is then a place for ``nnUNet_results``. What ``nnUNetv2_predict`` does in another way than medseg is
    warned of. Weights are written by ``torch.save``, as nnU-Net reads them; they are tensors and plain values only, so
    that ``weights_only=True`` reads them.

    Args:
        model: What is written.
        folder: An empty folder.

    Raises:
        ConfigError: nnU-Net cannot build the network, or prepare images as the plan says.
        ModelError: The weights are damaged.
    """
    record = model.record
    _check(record.plan)
    order = axis_order(record.plan)
    dataset = f"Dataset{DATASET_NUMBER}_{_word(model.name)}"
    configuration = f"{record.plan.dims}d" if record.plan.dims == 2 else "3d_fullres"
    trained = ensure_folder(folder / dataset / f"{TRAINER}__{PLANS_NAME}__{configuration}")
    dataset_json = dataset_of(record)
    plans: dict[str, Any] = {}
    for number, source in enumerate(model.folders):
        weights = _peer_weights(read_tensors(source / WEIGHTS, COPY, ModelError), record, order)
        plans = plans or plans_of(record, order, dataset, {configuration: configuration_of(record, order, weights)})
        checkpoint = {
            "network_weights": _with_repeated(weights),
            "optimizer_state": None,
            "grad_scaler_state": None,
            "logging": {},
            "_best_ema": None,
            "current_epoch": record.provenance.get("epochs") or 0,
            "init_args": {
                "plans": plans, "configuration": configuration, "fold": number, "dataset_json": dataset_json,
            },
            "trainer_name": TRAINER,
            "inference_allowed_mirroring_axes": _mirrored(record, order),
        }  # fmt: skip
        with written_whole(ensure_folder(trained / f"fold_{number}") / "checkpoint_final.pth") as file:
            torch.save(checkpoint, file)
    write_json(trained / "plans.json", plans)
    write_json(trained / "dataset.json", dataset_json)
    for difference in _differences(record):
        warn(difference)


def _check(plan: Plan) -> None:
    """Checks that nnU-Net has the plan's network and steps."""
    grid, architecture = plan.grid, plan.architecture
    odd = {
        f"has no '{architecture.name}', only {' and '.join(sorted(CLASSES))}": architecture.name not in CLASSES,
        "knows no prompts (train with --init THIS_RUN --set training.prompts=none)": plan.prompts is not None,
        "has no network of one stage": len(architecture.features) < 2,
        "has no network that begins at half the resolution (train with planning.cpu_half_resolution=false)": any(
            edge > 1 for edge in architecture.strides[0]
        ),
        "takes odd kernels only": any(edge % 2 == 0 for kernel in architecture.kernel_sizes for edge in kernel),
        f"has no axes of {grid.orientation}, only {' and '.join(READERS)}": grid.orientation not in READERS,
        "tells no objects apart": plan.objects is not None,
        "cannot run transforms of your own": bool(grid.transforms),
        "normalizes before it resamples": grid.resample_first,
        f"cannot resample as '{grid.resampling.rule}' does": grid.resampling.rule not in ("medseg", "nnunet"),
        "brings logits back, and nothing else": grid.resampling.restored != "logits",
        "takes regions by a sigmoid only where one of them is of several labels": bool(plan.regions)
        and all(len(region.values) == 1 for region in plan.regions),
    }
    for reason, is_so in odd.items():
        if is_so:
            raise ConfigError(f"{FORMAT}: nnU-Net {reason}; take --format zip or onnx")


def _peer_weights(weights: Tensors, record: ModelRecord, order: AxisOrder) -> Tensors:
    """Returns the weights by nnU-Net's names, with kernels along its axes, and a head at each resolution."""
    kernel = [2 + order.seen.index(axis) for axis in range(order.dims)]
    result = {
        tensor_name(name): tensor.permute(0, 1, *kernel).contiguous() if tensor.ndim == 2 + order.dims else tensor
        for name, tensor in weights.items()
    }
    features = record.plan.architecture.features
    heads = sorted({int(found[1]) for name in result if (found := HEAD.fullmatch(name))})
    missing = len(features) - 1 - len(heads)
    if missing:  # it was trained without deep supervision: nnU-Net has heads that nothing reads all the same
        result = {HEAD.sub(rf"decoder.seg_layers.{missing}.\2", name): tensor for name, tensor in result.items()}
        for stage in range(missing):
            shape = len(record.outputs), features[-2 - stage], *(1,) * order.dims
            result |= {f"decoder.seg_layers.{stage}.weight": torch.zeros(shape)}
            result |= {f"decoder.seg_layers.{stage}.bias": torch.zeros(shape[0])}
    return result


def _with_repeated(weights: Tensors) -> Tensors:
    """Returns the state dict as nnU-Net's modules have it: layers in a sequence too, the encoder in the decoder too."""
    result: Tensors = {}
    for name, tensor in weights.items():
        layered = name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        names = {name, layered}
        if name.startswith("encoder."):
            names |= {f"decoder.{each}" for each in names}
        result |= dict.fromkeys(sorted(names), tensor)
    return result


def _mirrored(record: ModelRecord, order: AxisOrder) -> tuple[int, ...] | None:
    """Returns the axes of nnU-Net along which it averages over mirrored images; None where the model does without."""
    axes = record.plan.mirrored_axes if record.inference.mirror else ()
    return tuple(i for i in range(order.dims) if order.axis(i) in axes) or None


def _differences(record: ModelRecord) -> Iterator[str]:
    """Yields what nnU-Net does in another way: in whole sentences."""
    plan, grid, labels = record.plan, record.plan.grid, record.labels
    if labels.values != list(range(1, len(labels.values) + 1)):
        values = ", ".join(f"{name} {value}" for value, name in enumerate(labels.names, start=1))
        yield f"nnU-Net writes labels without gaps: {values}"
    if grid.resampling.rule == "medseg":
        yield "nnU-Net resamples images by B-splines, this model by Keys' cubic: labels differ a little at borders"
    if plan.windows.rule != "nnunet":
        yield "nnU-Net spreads windows evenly, this model has them a step apart: labels differ a little at borders"
    overlap, window = window_overlap(record.inference), record.inference.window
    if overlap != 1 - STEP:
        yield f"The windows of this model overlap by {overlap:g}: say nnUNetv2_predict -step_size {1 - overlap:g}"
    if window is not None and window != plan.network_patch:
        yield f"nnU-Net takes windows of the size of the patch, this model of {'×'.join(map(str, window))} voxels"
    if fitting_patch(plan) != plan.patch_size:
        yield f"nnU-Net takes patches that strides divide: {'×'.join(map(str, fitting_patch(plan)))} voxels"
    if not grid.crop_to_nonzero:
        yield "nnU-Net cuts off margins that are 0 everywhere, this model doesn't"
    if any(rule.kind == "zscore" and rule.nonzero for rule in grid.normalization) and not grid.fill_holes:
        yield "nnU-Net counts zeros that are enclosed by the body as part of it, this model doesn't"
    if plan.slice_axis is not None and plan.slice_axis not in grid.own_spacing:
        mm = grid.spacing[plan.slice_axis]
        yield f"nnU-Net's 2D networks see slices as they are; this model has them resampled to {mm:g} mm"
    if record.postprocessing:
        yield f"nnUNetv2_predict does not postprocess; this model does ({'; '.join(map(str, record.postprocessing))})"
    if grid.registered:
        yield "nnU-Net needs all channels of a case on one grid; bring them there before"


def _word(name: str) -> str:
    """Returns a name as nnU-Net's folders may have it."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "medseg"
