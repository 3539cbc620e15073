"""Volumes that nobody expects: each gives a label map on its grid, or one clear line."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from model_records import record_of
from PIL import Image

import medseg
from medseg.architecture import Architecture
from medseg.errors import SourceError
from medseg.inferers.model import save_model
from medseg.networks.registry import build_network
from medseg.plan import Normalization, Plan


@pytest.fixture(params=["zscore", "ct", "none"])
def model(request: pytest.FixtureRequest, tiny_plan: Plan, tmp_path: Path) -> Path:
    """Says 1 of voxels above 0.5 (normalized), else background."""
    rule = Normalization(kind=request.param, lower=-1000, upper=1000)
    grid = tiny_plan.grid.model_copy(update={"normalization": (rule,)})
    architecture = Architecture(
        name="unet", features=(1,), strides=((1, 1, 1),), kernel_sizes=((1, 1, 1),), convolutions_per_stage=1
    )
    plan = tiny_plan.model_copy(update={"grid": grid, "architecture": architecture})
    record = record_of(plan, {"bright": 1}, ("x",))
    network = build_network(1, 2, plan.architecture)
    save_model(tmp_path / "model", record, network.state_dict())
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.networks.fitting import Fitted

    def forward(_: Fitted, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), image - 0.5], dim=1)

    monkeypatch.setattr(Fitted, "forward", forward)


def predict(model: Path, array: np.ndarray, folder: Path, spacing: float = 1.0) -> np.ndarray:
    path = folder / "case.nii.gz"
    affine = np.diag([-spacing, spacing, spacing, 1.0])
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    medseg.predict(model, path, folder / "masks", device="cpu", backend="torch")
    mask = nibabel.load(folder / "masks" / "case.nii.gz")
    assert mask.shape == array.shape
    assert np.array_equal(mask.affine, affine)
    return np.asarray(mask.dataobj)


def bright_box(shape: tuple[int, int, int]) -> np.ndarray:
    array = np.full(shape, 0.1, dtype=np.float32)
    array[tuple(slice(n // 4, n // 4 + max(n // 2, 1)) for n in shape)] = 100
    return array


@pytest.mark.parametrize("shape", [(3, 2, 4), (1, 1, 1), (40, 30, 1), (1, 20, 20), (9, 8, 7)])
def test_small_and_flat_volumes(model: Path, tmp_path: Path, shape: tuple[int, int, int]) -> None:
    array = bright_box(shape)
    mask = predict(model, array, tmp_path)
    if array.std() > 0:  # else no value stands out
        assert np.array_equal(mask == 1, array == 100)


@pytest.mark.parametrize("value", [0.0, 7.0, -1024.0])
def test_one_value_everywhere(model: Path, tmp_path: Path, value: float) -> None:
    mask = predict(model, np.full((12, 9, 10), value, dtype=np.float32), tmp_path)
    assert len(np.unique(mask)) == 1


def test_two_thousand_slices(model: Path, tmp_path: Path) -> None:
    array = bright_box((10, 12, 2000))
    assert np.array_equal(predict(model, array, tmp_path) == 1, array == 100)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_one_line(model: Path, tmp_path: Path, value: float) -> None:
    array = bright_box((12, 9, 10))
    array[1, 2, 3] = value
    with pytest.raises(SourceError, match="number of voxels that are NaN or infinite: 1; replace them"):
        predict(model, array, tmp_path)
    assert not (tmp_path / "masks" / "case.nii.gz").exists()


def test_no_voxels_at_all_is_one_line(model: Path, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 0, 4), dtype=np.float32), np.eye(4)), tmp_path / "case.nii.gz")
    with pytest.raises(SourceError, match="case"):
        medseg.predict(model, tmp_path / "case.nii.gz", tmp_path / "masks", device="cpu", backend="torch")


@pytest.mark.parametrize("model", ["none"], indirect=True)
def test_one_volume_of_several(model: Path, tmp_path: Path) -> None:
    """The message says what there is; its path, or a glob, chooses."""
    first, second = bright_box((12, 9, 10)), bright_box((12, 9, 10))[::-1].copy()
    second[0] = 100
    affine = np.diag([-1.0, 1, 1, 1])
    path = tmp_path / "images" / "times.nii.gz"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(np.stack([first, second], axis=-1), affine), path)
    how = {"device": "cpu", "backend": "torch"}
    with pytest.raises(SourceError, match=r"by its path, .*times\.nii\.gz/volume-1 to volume-2, .*'\*\*/volume"):
        medseg.predict(model, path, tmp_path / "masks", **how)
    (named,) = medseg.predict(model, path / "volume-2", tmp_path / "masks", **how)
    (matched,) = medseg.predict(model, path.parent, tmp_path / "matched", images="**/volume-2", **how)
    for prediction, name in ((named, "times_volume-2"), (matched, "times")):
        assert prediction.path is not None and prediction.path.name == f"{name}.nii.gz"
        assert prediction.source == path / "volume-2"
        mask = nibabel.load(prediction.path)
        assert np.array_equal(np.asarray(mask.dataobj) == 1, second == 100)
        assert np.array_equal(mask.affine, affine)


@pytest.mark.parametrize("model", ["none"], indirect=True)
def test_a_colour_picture_has_no_volume_to_choose(model: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "colours.png")
    with pytest.raises(SourceError, match=r"number of channels is 3, .*; store it in grey values"):
        medseg.predict(model, tmp_path / "colours.png", tmp_path / "masks", device="cpu", backend="torch")
