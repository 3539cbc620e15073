"""MONAI's ``Invertd`` brings label maps back onto the grid of the source, as medseg's own way back does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.data.dataloader import DataLoader
from monai.data.dataset import Dataset
from monai.transforms import Compose, Invertd, SaveImaged

from medseg.errors import GeometryError, SourceError
from medseg.io.nifti.writer import write_nifti
from medseg.io.read import read_volume
from medseg.labels import Labels
from medseg.plan import Grid, Normalization
from medseg.transforms import build_preprocessing, prepare, restore
from medseg.volume import Geometry, Volume

SHAPE = (17, 22, 13)


def affine(kind: str) -> np.ndarray:
    spacing = {"anisotropic": (0.7, 0.7, 3.0)}.get(kind, (1.1, 0.9, 1.6))
    result = np.diag([*spacing, 1.0])
    if kind == "LPS":
        result = np.diag([-1.0, -1.0, 1.0, 1.0]) @ result
    elif kind == "oblique":
        a, b = np.deg2rad((18, -11))
        turn = np.eye(4)
        turn[:3, :3] = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
        tilt = np.eye(4)
        tilt[:3, :3] = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
        result = turn @ tilt @ result
    elif kind == "permuted":
        result = result[:, [2, 0, 1, 3]]
    elif kind == "sheared":
        result[1, 2] = 0.5
    result[:3, 3] = (-31.0, 12.5, 80.0)
    return result


def grid(spacing: tuple[float, float, float] = (1.3, 1.0, 2.0), orientation: str = "RAS") -> Grid:
    rule = Normalization(kind="zscore", nonzero=True)
    return Grid(orientation=orientation, spacing=spacing, crop_to_nonzero=True, normalization=(rule,))


def phantom(kind: str) -> tuple[Volume, np.ndarray]:
    """An image that is zero around a box, and a label map of three labels with crooked borders in it."""
    random = np.random.default_rng(0)
    image = np.zeros(SHAPE, np.float32)
    image[2:-3, 4:-1, 1:] = random.uniform(1, 50, (12, 17, 12))
    x, y, z = np.indices(SHAPE)
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[(x - 8) ** 2 + (y - 12) ** 2 + 2 * (z - 6) ** 2 < 40] = 1
    label_map[(x > 8) & (label_map == 1)] = 2
    label_map[4:6, 6:9, 2:11] = 3
    return Volume(image[None], Geometry(SHAPE, affine(kind))), label_map


def as_data(volume: Volume, label_map: np.ndarray) -> dict[str, MetaTensor]:
    where = torch.from_numpy(volume.geometry.affine)
    return {
        "image": MetaTensor(torch.from_numpy(volume.array), affine=where),
        "label": MetaTensor(torch.from_numpy(label_map[None]), affine=where),
    }


def one_hot(label_map: torch.Tensor, n: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(label_map.long(), n).permute(3, 0, 1, 2).float()


KINDS = ("straight", "anisotropic", "LPS", "oblique", "permuted", "sheared")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", [(1.3, 1.0, 2.0), (0.55, 0.45, 0.8), (1.1, 0.9, 1.6)], ids=["other", "half", "own"])
def test_invertd_equals_the_own_way_back(kind: str, spacing: tuple[float, float, float]) -> None:
    volume, label_map = phantom(kind)
    plan = grid(spacing, "LAS")
    preprocess = build_preprocessing(plan)
    case = preprocess(as_data(volume, label_map))
    prepared = prepare(volume, label_map, plan)
    assert prepared.label_map is not None
    assert torch.equal(case["image"].as_tensor(), prepared.image)
    assert torch.equal(case["label"].as_tensor()[0], prepared.label_map)
    case["prediction"] = MetaTensor(case["label"].as_tensor().clone())
    back = Invertd("prediction", preprocess, "image")(case)["prediction"]
    own = restore(one_hot(prepared.label_map, 4), prepared.geometry, volume.geometry)
    np.testing.assert_array_equal(back.as_tensor()[0].numpy(), own)
    np.testing.assert_allclose(back.affine.numpy(), volume.geometry.affine, atol=1e-9)
    assert back.applied_operations == []


@pytest.mark.parametrize("kind", ["anisotropic", "oblique", "permuted"])
def test_invertd_of_logits_equals_the_own_way_back(kind: str) -> None:
    volume, label_map = phantom(kind)
    preprocess = build_preprocessing(grid())
    case = preprocess(as_data(volume, label_map))
    logits = torch.randn(4, *case["image"].shape[1:], generator=torch.Generator().manual_seed(3))
    logits[0] += 0.1
    geometry = prepare(volume, None, grid()).geometry
    back = Invertd("logits", preprocess, "image", nearest_interp=False)({**case, "logits": MetaTensor(logits)})[
        "logits"
    ]
    own = restore(logits, geometry, volume.geometry)
    np.testing.assert_array_equal(back.as_tensor().argmax(0).numpy(), own)


@pytest.mark.parametrize("kind", ["anisotropic", "oblique"])
def test_what_is_above_zero_in_the_end_is_cropped_and_comes_back(kind: str) -> None:
    volume, label_map = phantom(kind)
    bright = Normalization(kind="linear", mean=45, std=1)
    plan = grid().model_copy(update={"crop_to_nonzero": False, "normalization": (bright,), "crop_last": True})
    plan = plan.model_copy(update={"transforms": ({"name": "ShiftIntensityd", "keys": ["image"], "offset": -2.0},)})
    preprocess = build_preprocessing(plan)
    case, prepared = preprocess(as_data(volume, label_map)), prepare(volume, label_map, plan)
    whole = prepare(volume, label_map, plan.model_copy(update={"crop_last": False}))
    x, y, z = np.nonzero(whole.image[0].numpy() > 0)
    box = tuple(slice(each.min(), each.max() + 1) for each in (x, y, z))
    assert prepared.image.shape[1:] != whole.image.shape[1:] and prepared.label_map is not None
    assert torch.equal(prepared.image[0], whole.image[0][box])
    assert torch.equal(case["image"].as_tensor(), prepared.image)
    assert torch.equal(case["label"].as_tensor()[0], prepared.label_map)
    case["prediction"] = MetaTensor(torch.ones_like(case["label"].as_tensor()))
    back = Invertd("prediction", preprocess, "image")(case)["prediction"]
    own = restore(one_hot(torch.ones_like(prepared.label_map), 2), prepared.geometry, volume.geometry)
    assert 0 < own.sum() < own.size
    differ = back.as_tensor()[0].numpy() != own  # at edges of the box, where most of what lies around is outside
    assert differ.mean() < 0.02 and own[differ].all()


def test_the_label_itself_comes_back_by_inverse() -> None:
    volume, label_map = phantom("oblique")
    label_map[volume.array[0] == 0] = 0  # what is cropped away comes back as background
    own = grid(volume.geometry.oriented_as("RAS").spacing)
    case = build_preprocessing(own)(as_data(volume, label_map))
    back = build_preprocessing(own)
    with pytest.raises(RuntimeError):  # MONAI's: the trace is that of another Compose
        back.inverse(case)
    preprocess = build_preprocessing(own)
    restored = preprocess.inverse(preprocess(as_data(volume, label_map)))
    np.testing.assert_array_equal(restored["label"].as_tensor()[0].numpy(), label_map)
    assert tuple(restored["image"].shape[1:]) == SHAPE


def test_paths_are_read_and_label_values_encoded(tmp_path: Path) -> None:
    volume, label_map = phantom("oblique")
    values = np.array([0, 4, 7, 200], np.uint8)
    write_nifti(tmp_path / "image.nii.gz", volume.array[0], volume.geometry)
    write_nifti(tmp_path / "label.nii.gz", values[label_map], volume.geometry)
    labels = Labels.from_values([4, 7, 200])
    preprocess = build_preprocessing(grid(), labels)
    case = preprocess({"image": tmp_path / "image.nii.gz", "label": str(tmp_path / "label.nii.gz"), "name": "a"})
    read = read_volume(tmp_path / "image.nii.gz")
    prepared = prepare(read, label_map, grid())
    assert torch.equal(case["image"].as_tensor(), prepared.image)
    assert torch.equal(case["label"].as_tensor()[0], prepared.label_map)
    assert case["label"].dtype == torch.uint8
    assert case["name"] == "a"
    assert case["image"].meta["filename_or_obj"].endswith("image.nii.gz")
    write_nifti(tmp_path / "label.nii.gz", values[label_map], Geometry(SHAPE, affine("LPS")))
    with pytest.raises(GeometryError, match="different grids"):
        preprocess({"image": tmp_path / "image.nii.gz", "label": tmp_path / "label.nii.gz"})
    with pytest.raises(SourceError, match="2 channels where the plan has 1"):
        preprocess({"image": [tmp_path / "image.nii.gz"] * 2})
    with pytest.raises(SourceError, match="affine"):
        preprocess({"image": torch.zeros(1, 4, 4, 4)})


def test_a_user_s_transform_of_values_does_not_break_the_way_back() -> None:
    volume, label_map = phantom("LPS")
    spec = {"name": "ScaleIntensityd", "keys": ["image"]}
    preprocess = build_preprocessing(grid().model_copy(update={"transforms": (spec,)}))
    case = preprocess(as_data(volume, label_map))
    assert float(case["image"].max()) == 1.0
    plain = build_preprocessing(grid())(as_data(volume, label_map))
    case["prediction"] = MetaTensor(plain["label"].as_tensor())
    back = Invertd("prediction", preprocess, "image")(case)["prediction"]
    assert tuple(back.shape[1:]) == SHAPE


def test_the_trace_survives_a_data_loader() -> None:
    volume, label_map = phantom("oblique")
    preprocess = build_preprocessing(grid())
    cases = Dataset([as_data(volume, label_map)] * 2, preprocess)
    batch = next(iter(DataLoader(cases, batch_size=2)))
    batch["prediction"] = batch["label"].clone()
    after = Compose([Invertd("prediction", preprocess, "image")])
    for case in decollate_batch(batch):
        assert tuple(after(case)["prediction"].shape[1:]) == SHAPE


def test_invertd_equals_the_own_way_back_on_a_real_case(real_data: Path) -> None:
    name = min(path.name for path in (real_data / "hippocampus" / "imagesTr").glob("*.nii.gz"))
    plan = grid((0.8, 1.3, 1.1)).model_copy(update={"crop_to_nonzero": False})
    preprocess = build_preprocessing(plan, Labels.from_values([1, 2]))
    paths = {
        "image": real_data / "hippocampus" / "imagesTr" / name,
        "label": real_data / "hippocampus" / "labelsTr" / name,
    }
    case = preprocess(dict(paths))
    source = read_volume(paths["image"]).geometry
    case["prediction"] = MetaTensor(case["label"].as_tensor())
    back = Invertd("prediction", preprocess, "image")(case)["prediction"]
    geometry = Geometry(tuple(case["image"].shape[1:]), case["image"].affine.numpy())
    own = restore(one_hot(case["label"].as_tensor()[0], 3), geometry, source)
    np.testing.assert_array_equal(back.as_tensor()[0].numpy(), own)
    reference = read_volume(paths["label"]).label_map
    assert 2 * np.sum((own > 0) & (reference > 0)) / (np.sum(own > 0) + np.sum(reference > 0)) > 0.95


def test_saveimaged_writes_what_came_back_on_the_grid_of_the_source(tmp_path: Path) -> None:
    volume, _ = phantom("oblique")
    write_nifti(tmp_path / "case.nii.gz", volume.array[0], volume.geometry)
    preprocess = build_preprocessing(grid())
    case = preprocess({"image": tmp_path / "case.nii.gz"})
    case["prediction"] = MetaTensor(torch.ones(1, *case["image"].shape[1:]))
    save = SaveImaged("prediction", output_dir=tmp_path / "out", output_postfix="mask", separate_folder=False)
    Compose([Invertd("prediction", preprocess, "image"), save])(case)
    written = read_volume(tmp_path / "out" / "case_mask.nii.gz")
    assert volume.geometry.difference(written.geometry) is None
    inside = np.zeros(SHAPE, bool)
    inside[2:-3, 4:-1, 1:] = True
    np.testing.assert_array_equal(written.label_map > 0, inside)
