"""A model without its training data in int8: made by images of the user's, used, and not kept where masks differ."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nnunet_folder import checkpoint, state, write

import medseg
from medseg.dataset.layouts import find_cases
from medseg.errors import ModelError, TrainingError
from medseg.inferers.model import load_model, with_settings
from medseg.inferers.quantised import FOLDER, read_quantised_record
from medseg.inferers.windows import window_of
from medseg.workflows import quantise_with_images as workflow

pytest.importorskip("nncf", reason="NNCF is not installed (medseg[int8])")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Its labels follow the intensities, as those of trained networks do."""
    weights = state()
    for name in ("decoder.stages.1.convs.1.norm.weight", "decoder.seg_layers.1.weight"):
        weights[name].fill_(1)
    weights["decoder.seg_layers.1.weight"][:, :3] = 4 * torch.eye(3)[..., None, None, None]
    for name in ("decoder.stages.1.convs.1.norm.bias", "decoder.seg_layers.1.bias"):
        weights[name].zero_()
    saved = checkpoint(weights, inference_allowed_mirroring_axes=None)
    return medseg.import_model(write(tmp_path / "source", folds={"0": saved}), tmp_path / "model")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(2):
        values = np.random.default_rng(i).normal(50, 150, (30, 20, 12)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1.5, 1.5, 5, 1])), folder / f"case{i}.nii.gz")
    return folder


def test_activations_are_measured_on_windows_of_the_size_that_the_model_takes(model: Path, images: Path) -> None:
    loaded = load_model(model, "cpu")
    cases = find_cases(images, labelled=False).cases
    own, plan = loaded.record.inference, loaded.record.plan
    assert workflow._windows(loaded, cases).shape[2:] == window_of(loaded.network, plan, own)
    wide = tuple(2 * n for n in plan.network_patch)  # larger than the images
    windows = workflow._windows(with_settings(loaded, {"window": wide}), cases)
    assert windows.shape[2:] == wide and len(windows) >= len(cases)


@pytest.mark.slow
def test_an_imported_model_in_int8(model: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "LEAST_AGREEMENT", 0.8)  # of random weights
    with pytest.raises(TrainingError, match="images="):
        medseg.quantise(model)
    result = medseg.quantise(model, images=images)
    record = read_quantised_record(model)
    assert record is not None and result.folders == (model / FOLDER,)
    assert (record.cases, record.dice_before) == (2, 1) and 0.8 < record.dice < 1
    image = images / "case0.nii.gz"
    masks = [medseg.predict(model, image, device="cpu", backend=backend) for backend in ("torch", "int8")]
    by_torch, by_int8 = (each.predictions[0].label_map.label_map for each in masks)
    assert 0.8 < np.mean(by_torch == by_int8) < 1
    before = (model / FOLDER / "network.json").read_text()
    monkeypatch.setattr(workflow, "LEAST_AGREEMENT", 1)
    with pytest.raises(ModelError, match="less than before, which is more than 0; nothing was kept"):
        medseg.quantise(model, images=images)
    assert (model / FOLDER / "network.json").read_text() == before
