"""quantise, of a model whose training data is elsewhere: by images of the user's."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from medseg.dataset.cases import Case
from medseg.dataset.channel_order import channels_as_trained
from medseg.dataset.layouts import find_cases
from medseg.device import choose_device
from medseg.errors import ConfigError, ModelError
from medseg.inferers.model import Model, load_model, model_folders, weights_fingerprint
from medseg.inferers.quantised import (
    FOLDER,
    LARGEST_LOSS,
    QuantisedRecord,
    QuantiseResult,
    check_quantisable,
    quantised,
    save_quantised,
)
from medseg.inferers.windows import Layout, window_of
from medseg.prediction.case_reading import read_case
from medseg.progress import counted, say
from medseg.training.quantisation import n_patches
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict

# Mean Dice between the masks before and after, below which it is not kept where there are no references.
LEAST_AGREEMENT = 0.99


def quantise_with_images(model: Path, images: Path, references: Path | None = None) -> QuantiseResult:
    """Quantises each network of a model to int8; kept are all, or none.

    Args:
        model: A model folder, of an ensemble too.
        images: What it is measured on: as ``predict`` takes them.
        references: Label maps of these images. None: the masks before and after are compared with each other.

    Raises:
        ModelError: The masks lose more, or differ more, than they may.
        ConfigError: NNCF isn't installed, or it is a network of valid convolutions.
        SourceError: There are no images.
    """
    if model.is_file():
        raise ConfigError(f"{model}: int8 lies in the folder of a model; unpack it, and give the folder")
    folders = model_folders(model)
    with tempfile.TemporaryDirectory(prefix="medseg-int8-") as place:
        copy, masks = Path(place) / "model", Path(place) / "masks"
        shutil.copytree(folders[0] if len(folders) == 1 else folders[0].parent, copy)
        before = _quantise_copy(copy, images)
        for backend in ("torch", "int8"):
            predict(copy, images, masks / backend, device="cpu", backend=backend, postprocessing=False)
        dice_before = 1.0 if references is None else _mean_dice(masks / "torch", references)
        dice = _mean_dice(masks / "int8", masks / "torch" if references is None else references)
        _check(model, dice_before - dice, LARGEST_LOSS if references is not None else 1 - LEAST_AGREEMENT)
        cases = len(list((masks / "int8").glob("*.nii.gz")))
        records = tuple(
            QuantisedRecord(
                fingerprint=weights_fingerprint(folder), dice=dice, dice_before=dice_before, cases=cases, window=window
            )
            for folder, (_, window) in zip(folders, before, strict=True)
        )
        for folder, record, (graph, _) in zip(folders, records, before, strict=True):
            save_quantised(graph, record, folder)
    what = "the masks agree with those before" if references is None else f"before it was {dice_before:.4f}"
    say(f"In int8 the mean Dice of {counted(cases, 'case')} is {dice:.4f}, {what}")
    return QuantiseResult(tuple(folder / FOLDER for folder in folders), records)


def _quantise_copy(copy: Path, images: Path) -> list[tuple[object, tuple[int, ...]]]:
    """Puts each network of a copy of a model into int8 beside its weights.

    Returns:
        Their graphs, and the size of the windows that each takes.
    """
    graphs = []
    for folder in model_folders(copy):
        model = load_model(folder, choose_device("cpu"))
        check_quantisable(model.network, copy)
        found = channels_as_trained(model.record.channels, find_cases(images, labelled=False))
        windows = _windows(model, found.cases)
        say(f"Quantising with {counted(len(windows), 'window')} of {counted(len(found.cases), 'case')}")
        graph, window = quantised(model.network, windows), tuple(windows.shape[2:])
        graphs.append((graph, window))
        record = QuantisedRecord(fingerprint=weights_fingerprint(folder), dice=0, dice_before=0, cases=0, window=window)
        save_quantised(graph, record, folder)
    return graphs


def _windows(model: Model, cases: Sequence[Case]) -> torch.Tensor:
    """Returns windows ``(window, channel, *spatial)`` as the network sees them, spread over all cases."""
    plan, config = model.record.plan, model.record.inference
    window = window_of(model.network, plan, config)
    size, most = Layout.of(model.network, plan, plan.in_space(window, 1), config).patch_size, n_patches(window)
    chosen: list[torch.Tensor] = []
    for i, case in enumerate(cases[:most]):
        image = read_case(case, model, config).prepared.image
        x, y, z = image.shape[1:]
        # An image that is smaller is padded: all windows have one shape.
        layout = replace(Layout.of(model.network, plan, (x, y, z), config), patch_size=size)
        padded = layout.pad(image)
        starts = list(chain.from_iterable(row.windows for row in layout.rows()))
        n = -(-(most - len(chosen)) // min(len(cases) - i, most - i))
        step = max(1, len(starts) // n)
        chosen += [padded[layout.seen(start)] for start in starts[step // 2 :: step][:n]]
    windows = torch.stack(chosen)
    return windows if plan.slice_axis is None else windows.squeeze(plan.slice_axis + 2)


def _mean_dice(predictions: Path, references: Path) -> float:
    mean = evaluate(predictions, references, metrics=["dice"]).summary.over_labels["dice"].mean
    return 0.0 if mean is None else mean


def _check(model: Path, loss: float, most: float) -> None:
    if loss > most:
        raise ModelError(
            f"{model}: in int8 the mean Dice is {loss:.4f} less than before, which is more than {most:.3g}; nothing "
            "was kept, predict with --backend openvino"
        )
