"""predict with plans of other programs: the whole way there and back, as these programs go it."""

import json
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.transform import resize
from typer.testing import CliRunner

import medseg
from medseg.architecture import Architecture
from medseg.cli.main import app
from medseg.config import InferenceConfig
from medseg.inferers.model import save_model
from medseg.inferers.model_record import ModelRecord
from medseg.labels import Labels
from medseg.plan import Grid, Normalization, Plan, Resampling

AFFINE = np.array([[0.0, -0.8, 0, 30], [0.8, 0, 0, -20], [0, 0, -4.0, 4], [0, 0, 0, 1]])  # axes to A, L and I
SHAPE = (26, 31, 12)


class Bright(torch.nn.Module):
    """Says 1 of what is bright and 2 of what is dark, so that it makes no difference where windows lie.

    They lie by MONAI's rule: nnU-Net's sums in float16 have a test of their own (tests/unit/inferers/test_windows.py).
    """

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), 2 * image - 1, -image], dim=1)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.inferers.model.build_network", lambda *_: Bright())
    monkeypatch.setattr("medseg.inferers.model.shapes_of", lambda *_: None)


@pytest.fixture
def image() -> np.ndarray:
    """Blurred noise in a box, zero around."""
    values = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), (2, 2, 1)) * 500 + 100
    values[:4], values[:, -6:], values[:, :, :2] = 0, 0, 0
    return values.astype(np.float32)


def write_model(folder: Path, grid: Grid, dims: Literal[2, 3]) -> Path:
    strides = ((1,) * dims,)
    plan = Plan(
        dims=dims, grid=grid, patch_size=(8, 10, 6 if dims == 3 else 1), batch_size=1,
        slice_axis=None if dims == 3 else 2,
        architecture=Architecture(features=(1,), strides=strides, kernel_sizes=strides),
    )  # fmt: skip
    record = ModelRecord(
        medseg="0", plan=plan, labels=Labels.from_names({"bright": 1, "dark": 2}), channels=("x",),
        inference=InferenceConfig(skip_air=False), provenance={}, metrics={},
    )  # fmt: skip
    save_model(folder, record, {})
    return folder


def sliced(image: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """nnU-Net's resampling of thick slices: each in its plane, then the nearest one."""
    planes = np.stack(
        [resize(plane.T.astype(float), shape[:2], order, mode="edge", anti_aliasing=False) for plane in image.T], 2
    )
    index = np.floor(image.shape[2] / shape[2] * (np.arange(shape[2]) + 0.5)).astype(int)
    return planes[:, :, index]


def reference(image: np.ndarray, spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what nnU-Net makes of the image with such a network, and how sure it is of each voxel."""
    nonzero = np.nonzero(image)
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in nonzero)
    cropped = image[box]
    normalized = (cropped - cropped.mean()) / cropped.std()
    shape = tuple(round(old / new * n) for old, new, n in zip((0.8, 0.8, 4.0), spacing, cropped.shape, strict=True))
    prepared = sliced(normalized, shape, 3)
    logits = np.stack([np.zeros(shape), 2 * prepared - 1, -prepared])
    back = np.stack([sliced(each, cropped.shape, 1) for each in logits])
    labels, margin = np.zeros(image.shape, int), np.full(image.shape, 9.0)
    labels[box], margin[box] = back.argmax(0), np.diff(np.sort(back, axis=0)[-2:], axis=0)[0]
    return labels, margin


def label_map(folder: Path) -> np.ndarray:
    return np.asarray(nibabel.load(folder / "case.nii.gz").dataobj)


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("dims", [2, 3])
def test_masks_are_those_of_nnunet_and_near_to_them_by_medsegs_own_rule(
    image: np.ndarray, tmp_path: Path, dims: Literal[2, 3]
) -> None:
    grid = Grid(
        orientation="stored", spacing=(1.1, 0.7, 3.0), own_spacing=(2,) if dims == 2 else (), crop_to_nonzero=True,
        fill_holes=True, normalization=(Normalization(kind="zscore"),), resampling=Resampling(rule="nnunet"),
    )  # fmt: skip
    model = write_model(tmp_path / "model", grid, dims)
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), tmp_path / "case.nii.gz")
    medseg.predict(model, tmp_path / "case.nii.gz", tmp_path / "masks", device="cpu", backend="torch")
    found, (expected, margin) = label_map(tmp_path / "masks"), reference(image, (1.1, 0.7, 4.0 if dims == 2 else 3.0))
    assert np.array_equal(found[margin > 1e-3], expected[margin > 1e-3])
    assert (margin > 1e-3).mean() > 0.99
    assert set(np.unique(found)) == {0, 1, 2}
    arguments = ["predict", str(model), str(tmp_path / "case.nii.gz"), "-o", str(tmp_path / "masks"), "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, "--resampling", "medseg"])
    assert done.exit_code == 0, done.output
    own = label_map(tmp_path / "masks")  # predicted again, since a setting is another one
    assert 0.8 < (own == found).mean() < 1
    record = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    assert record["inference"]["resampling"] == "medseg"


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("setting", [{"resampling": "nearest"}, {"overlap": 1.5}, {"skip_air": "perhaps"}])
def test_settings_that_cannot_be_are_refused_by_name(
    tmp_path: Path, image: np.ndarray, setting: dict[str, object]
) -> None:
    grid = Grid(
        orientation="RAS", spacing=(2, 2, 2), crop_to_nonzero=False, normalization=(Normalization(kind="zscore"),)
    )
    model = write_model(tmp_path / "model", grid, 3)
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), tmp_path / "image.nii.gz")
    with pytest.raises(medseg.ConfigError, match=next(iter(setting))):
        medseg.predict(model, tmp_path / "image.nii.gz", tmp_path / "masks", **setting)


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("restored", ["logits", "probabilities", "labels"])
def test_what_is_brought_back_is_what_the_plan_says(
    image: np.ndarray, tmp_path: Path, restored: Literal["logits", "probabilities", "labels"]
) -> None:
    by = Resampling(rule="corners", interpolation="linear", restored=restored)
    grid = Grid(
        orientation="ALI", spacing=(1.1, 1.9, 3.0), crop_to_nonzero=False, resample_first=True, resampling=by,
        normalization=(Normalization(kind="linear", mean=100, std=100),),
    )  # fmt: skip
    model = write_model(tmp_path / "model", grid, 3)
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), tmp_path / "case.nii.gz")
    arguments = {"device": "cpu", "backend": "torch", "save_probabilities": True}
    medseg.predict(model, tmp_path / "case.nii.gz", tmp_path / "masks", **arguments)  # type: ignore[arg-type]
    zoom = np.array((0.8, 0.8, 4.0)) / grid.spacing
    prepared = (ndimage.zoom(image.astype(float), zoom, order=1) - 100) / 100
    logits = np.stack([np.zeros(prepared.shape), 2 * prepared - 1, -prepared])
    shares = np.exp(logits) / np.exp(logits).sum(0)
    there = np.array(SHAPE) / prepared.shape
    if restored == "labels":
        expected, margin = ndimage.zoom(logits.argmax(0), there, order=0), np.full(SHAPE, 9.0)
    else:
        back = np.stack([ndimage.zoom(each, there, order=1) for each in (logits if restored == "logits" else shares)])
        expected, margin = back.argmax(0), np.diff(np.sort(back, axis=0)[-2:], axis=0)[0]
    assert np.array_equal(label_map(tmp_path / "masks")[margin > 1e-4], expected[margin > 1e-4])
    assert (margin > 1e-4).mean() > 0.99
    if restored == "probabilities":
        (file,) = (tmp_path / "masks").rglob("*bright*.nii.gz")
        assert np.abs(np.asarray(nibabel.load(file).dataobj) - back[1]).max() < 0.01  # stored in 255 steps
