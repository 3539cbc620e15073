"""nnU-Net's cascade and its averages of configurations, of weights that are drawn."""

from pathlib import Path

import nibabel
import nnunet_folder
import numpy as np
import pytest

import medseg
from medseg.errors import ModelError
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.model import load_model, save_model
from medseg.inferers.recipe import read_recipe
from medseg.transforms.prepared import prepare


def write(dataset: Path, name: str, seed: int, channels: int = 1, **changes: object) -> None:
    """Writes a trained folder of a configuration."""
    plans = nnunet_folder.plans(changes)
    plans["configurations"] = {name: plans["configurations"]["3d_fullres"]}
    weights = nnunet_folder.state(channels=channels, seed=seed)
    folder = dataset / f"nnUNetTrainer__nnUNetPlans__{name}"
    nnunet_folder.write(
        folder, plans, folds={"0": nnunet_folder.checkpoint(weights, name, inference_allowed_mirroring_axes=None)}
    )


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(50, 150, (30, 28, 12)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.2, -1.2, 4, 1])), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def balance(model: Path, scan: Path) -> None:
    """Changes the last biases of a model, so that it finds all of its labels in a scan."""
    loaded = load_model(model, "cpu")
    image = prepare(medseg.read_volume(scan), None, loaded.record.plan.grid).image
    logits = predict_logits(loaded.network, image, loaded.record.plan, loaded.record.inference, loaded.device)
    weights = loaded.network.state_dict()
    weights[[name for name in weights if name.endswith("bias")][-1]] -= logits.mean((1, 2, 3))
    save_model(model, loaded.record, weights)


def found_by(model: Path, scan: Path) -> np.ndarray:
    (prediction,) = medseg.predict(model, scan, device="cpu").predictions
    return prediction.label_map.label_map


def test_a_cascade_becomes_a_recipe(tmp_path: Path, scan: Path) -> None:
    dataset = tmp_path / "Dataset004_Liver"
    write(dataset, "3d_lowres", 1, spacing=[6.0, 3.0, 3.0])
    write(dataset, "3d_cascade_fullres", 2, channels=3, previous_stage="3d_lowres", spacing=[4.0, 1.2, 1.2])
    model = medseg.import_model(dataset, tmp_path / "model", configuration="3d_cascade_fullres")
    low, high = read_recipe(model).members
    assert (low.gives, high.gives) == ({}, {"liver": "liver", "tumour": "tumour"})
    assert high.previous.member == low.name == "3d_lowres"
    record = load_model(model / high.name, "cpu").record
    assert record.channels == ("CT", "previous liver", "previous tumour")
    assert [rule.kind for rule in record.plan.grid.normalization] == ["ct", "mask", "mask"]
    told = [channel.normalization for channel in medseg.model_card(model).members[1].models[0].channels]
    assert told[1:] == ["as it is, a mask of 0 and 1"] * 2
    balance(model / low.name, scan)
    before, image = found_by(model / low.name, scan), nibabel.load(scan)
    assert len(np.unique(before)) == 3
    channels = np.stack([np.asarray(image.dataobj), before == 1, before == 2], -1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(channels, image.affine), tmp_path / "together.nii.gz")
    balance(model / high.name, tmp_path / "together.nii.gz")
    found = found_by(model, scan)
    assert len(np.unique(found)) == 3
    assert np.array_equal(found, found_by(model / high.name, tmp_path / "together.nii.gz"))
    channels[..., 1:] = 0
    nibabel.save(nibabel.Nifti1Image(channels, image.affine), tmp_path / "alone.nii.gz")
    assert not np.array_equal(found, found_by(model / high.name, tmp_path / "alone.nii.gz"))


def test_half_a_cascade_is_refused(tmp_path: Path) -> None:
    dataset = tmp_path / "Dataset004_Liver"
    write(dataset, "3d_cascade_fullres", 2, channels=3, previous_stage="3d_lowres")
    for folder in (dataset, dataset / "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"):
        with pytest.raises(
            ModelError, match="is the second stage of a cascade, which sees what '3d_lowres' found; give"
        ):
            medseg.import_model(folder, tmp_path / "model")
    renamed = (dataset / "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres").rename(tmp_path / "renamed")
    with pytest.raises(ModelError, match="is the second stage of a cascade; give"):
        medseg.import_model(renamed, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_configurations_are_averaged(tmp_path: Path, scan: Path) -> None:
    dataset = tmp_path / "Dataset004_Liver"
    write(dataset, "3d_lowres", 1, spacing=[6.0, 3.0, 3.0])
    write(dataset, "3d_fullres", 2)
    model = medseg.import_model(dataset, tmp_path / "model", configuration="3d_lowres+3d_fullres")
    (member,) = read_recipe(model).members
    assert member.models == ("3d_lowres", "3d_fullres")
    for name in member.models:
        balance(model / name, scan)
    found = found_by(model, scan)
    assert np.array_equal(found, found_by([model / name for name in member.models], scan))
    assert all((found != found_by(model / name, scan)).any() for name in member.models)
