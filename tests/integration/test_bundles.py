"""Bundles of MONAI give the logits and the label maps that MONAI gives, and are read as data."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from bundles import BUNDLES, run_by_monai, write_bundle, write_image

import medseg
from medseg.device import choose_device
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.model import load_model
from medseg.transforms.prepared import prepare


def affine() -> np.ndarray:
    """Axes in another order and direction than RAS, turned, and voxels that are no multiple of the bundles'."""
    cosine, sine = np.cos(0.1), np.sin(0.1)
    turned = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    axes = np.array([[0, -1, 0], [1, 0, 0], [0, 0, -1]]) * [0.9, 1.1, 2.6]
    return np.block([[turned @ axes, np.array([[30], [-20], [60]])], [np.zeros((1, 3)), np.ones((1, 1))]])


SHAPE = (38, 46, 21)
EQUAL = 1e-4


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.device._cpu_has_bf16", lambda: False)


@pytest.mark.parametrize(
    "name", [name if name == "spleen" else pytest.param(name, marks=pytest.mark.slow) for name in BUNDLES]
)
@pytest.mark.usefixtures("in_float32")
def test_a_bundle_predicts_what_monai_predicts(name: str, tmp_path: Path) -> None:
    config = BUNDLES[name]()
    bundle = write_bundle(tmp_path / name, config)
    n_channels = config["network_def"].get("in_channels", 1)
    files = [write_image(tmp_path / f"case_{i:04d}.nii.gz", affine(), SHAPE, seed=i) for i in range(n_channels)]
    logits, label_map = run_by_monai(bundle, files[0] if n_channels == 1 else files)

    folder = medseg.import_model(bundle, tmp_path / "model")
    model = load_model(folder, choose_device("cpu", "fp32"))
    plan = model.record.plan
    volumes = [medseg.read_volume(file) for file in files]
    volume = medseg.Volume(np.concatenate([each.array for each in volumes]), volumes[0].geometry)
    prepared = prepare(volume, None, plan.grid)
    own = predict_logits(model.network, prepared.image, plan, model.record.inference, model.device)
    assert own.shape == logits.shape
    if not plan.regions:  # whose outputs have another order
        assert float((own - logits).abs().max()) < EQUAL
    assert float(logits.std()) > 0.1

    masks = tmp_path / "masks"
    result = medseg.predict(folder, tmp_path, masks, images="case_*.nii.gz", device="cpu", backend="torch")
    assert not result.problems
    (mask,) = masks.glob("*.nii.gz")
    mine = np.asarray(nibabel.load(mask).dataobj)
    assert len(np.unique(label_map)) > 1
    differ = mine != label_map
    if plan.grid.crop_last:  # MONAI's labels reach up to a voxel of the model grid beyond the box, medseg's half of one
        differ &= mine > 0
    assert differ.mean() < 0.001
