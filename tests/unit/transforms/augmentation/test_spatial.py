"""Against SimpleITK, scipy and torch.rot90; images and labels have to stay together."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from medseg.transforms.augmentation.batch import BatchData
from medseg.transforms.augmentation.spatial import RandAffineBatch, RandFlipBatch

SHAPE = (24, 34, 18)
SPACING = (1.0, 0.7, 1.9)


def blobs(shape: tuple[int, ...], n: int = 1, seed: int = 0) -> BatchData:
    """Smooth random images; the label (0, 2, 5) is where they exceed two thresholds."""
    coarse = torch.randn((n, 1, *[5] * len(shape)), generator=torch.Generator().manual_seed(seed))
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    image = torch.nn.functional.interpolate(coarse, shape, mode=mode, align_corners=True)
    label = torch.where(image > 0.8, 5, torch.where(image > 0, 2, 0)).to(torch.uint8)
    return {"image": image, "label": label}


def always(spacing: tuple[float, ...], seed: int = 1, **options: object) -> RandAffineBatch:
    transform = RandAffineBatch(spacing, rotation_prob=1, scaling_prob=1, **options)  # type: ignore[arg-type]
    transform.set_random_state(seed=seed)
    return transform


def centred_positions(shape: tuple[int, ...], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Millimetres from the centre of the patch, (axis, *shape)."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def resample_with_simpleitk(
    array: torch.Tensor, matrix: NDArray[np.float64], spacing: tuple[float, ...], interpolator: int
) -> NDArray[np.float64]:
    dims = array.ndim
    source = sitk.GetImageFromArray(array.double().numpy().transpose())
    source.SetSpacing(spacing)
    source.SetOrigin([-(n - 1) / 2 * mm for n, mm in zip(array.shape, spacing, strict=True)])
    transform = sitk.AffineTransform(dims)
    transform.SetMatrix(matrix.flatten().tolist())
    return np.asarray(sitk.GetArrayFromImage(sitk.Resample(source, source, transform, interpolator, -99.0)).transpose())


@pytest.mark.parametrize(("shape", "spacing"), [(SHAPE, SPACING), ((30, 44), (1.3, 0.6))])
def test_equals_simpleitk_in_noncubic_patches_with_anisotropic_voxels(
    shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    batch = blobs(shape)
    transform = always(spacing)
    moved = transform(batch)
    matrix = transform.matrices()[0]
    image = resample_with_simpleitk(batch["image"][0, 0], matrix, spacing, sitk.sitkLinear)
    label = resample_with_simpleitk(batch["label"][0, 0], matrix, spacing, sitk.sitkNearestNeighbor)
    inside = image != -99
    # SimpleITK stops at the outermost half voxel, where ours fades to zero.
    half_edges = np.array([(n - 1) / 2 * mm for n, mm in zip(shape, spacing, strict=True)])
    source = np.tensordot(matrix, centred_positions(shape, spacing), 1)
    inside &= (np.abs(source) < half_edges.reshape(-1, *[1] * len(shape)) - 1e-3).all(axis=0)
    assert inside.mean() > 0.3
    np.testing.assert_allclose(moved["image"][0, 0].numpy()[inside], image[inside], atol=1e-4)
    # Positions half way between two voxels may go either way in float32.
    assert (moved["label"][0, 0].numpy() != label)[inside].mean() < 1e-3


def test_coordinates_turn_and_scale_as_scipy_says() -> None:
    positions = centred_positions(SHAPE, SPACING)
    batch = {
        "image": torch.from_numpy(positions).float()[None],
        "label": torch.zeros((1, 1, *SHAPE), dtype=torch.uint8),
    }
    transform = always(SPACING)
    moved = transform(batch)["image"][0].numpy()
    plane_01, plane_02, plane_12 = transform.angles[0]
    rotation = Rotation.from_euler("zyx", [plane_01, -plane_02, plane_12]).as_matrix()
    expected = np.tensordot(np.linalg.inv(rotation * transform.factors[0]), positions, 1)
    half_edges = np.array([(n - 1) / 2 * mm for n, mm in zip(SHAPE, SPACING, strict=True)])
    inside = (np.abs(expected) < half_edges[:, None, None, None]).all(axis=0)
    np.testing.assert_allclose(moved[:, inside], expected[:, inside], atol=1e-3)


def test_a_factor_above_one_enlarges() -> None:
    batch = blobs((40, 40))
    batch["label"] = torch.zeros_like(batch["label"])
    batch["label"][:, :, 16:24, 16:24] = 1
    transform = RandAffineBatch((1, 1), rotation_prob=0, scaling_prob=1, scaling_range=(1.5, 1.5))
    assert int(transform(batch)["label"].sum()) == 12 * 12


def test_a_quarter_turn_is_rot90() -> None:
    batch = blobs((21, 21))
    transform = RandAffineBatch((1, 1), rotation_prob=1, scaling_prob=0)

    def quarter_turn(n_samples: int) -> None:
        transform.angles = np.full((n_samples, 1), np.pi / 2)
        transform.factors = np.ones(n_samples)
        transform.chosen = np.arange(n_samples)

    transform.randomize = quarter_turn  # type: ignore[method-assign]
    moved = transform(batch)
    torch.testing.assert_close(moved["image"], batch["image"].rot90(1, (2, 3)), atol=1e-4, rtol=0)
    assert torch.equal(moved["label"], batch["label"].rot90(1, (2, 3)))


@pytest.mark.parametrize("shape", [(20, 28, 22), (40, 56)])
def test_labels_stay_with_the_image_and_none_is_new(shape: tuple[int, ...]) -> None:
    batch = blobs(shape, n=6)
    batch["image"] = batch["label"].float()
    transform = always((1.0, 1.5, 0.8)[: len(shape)], seed=3)
    moved = transform(batch)
    assert set(moved["label"].unique().tolist()) <= {0, 2, 5}
    # Away from the labels' borders interpolation finds one value only, and it has to be the label's.
    image, label = moved["image"], moved["label"].float()
    flat = torch.isclose(image, image.round(), atol=1e-4) & torch.isin(image.round(), torch.tensor([2.0, 5.0]))
    assert flat.float().mean() > 0.1
    wrong = flat & (image.round() != label)
    # Between 0 and 5 a mixture may happen to be 2.
    assert wrong.float().sum() <= 0.001 * flat.float().sum()
    assert moved["label"].dtype == torch.uint8


def test_nothing_moves_along_the_fixed_axis() -> None:
    label = torch.arange(1, 13).view(1, 1, 12, 1, 1).expand(3, 1, 12, 30, 30).to(torch.int32)
    batch = {"image": label.float(), "label": label}
    moved = always((4, 1, 1), rotation_degrees=180, fixed_axis=0)(batch)
    for index in range(12):
        assert set(moved["label"][:, :, index].unique().tolist()) <= {0, index + 1}
    assert not torch.equal(moved["label"], label)
    inner = slice(12, 18)
    torch.testing.assert_close(moved["image"][..., inner, inner], label[..., inner, inner].float())


def test_only_the_samples_drawn_change_and_the_input_stays() -> None:
    batch = blobs((16, 20, 12), n=40)
    before = {key: value.clone() for key, value in batch.items()}
    transform = RandAffineBatch((1, 1, 1))
    transform.set_random_state(seed=5)
    moved = transform(batch)
    changed = (moved["image"] != batch["image"]).flatten(1).any(1)
    assert changed.nonzero().flatten().tolist() == transform.chosen.tolist()
    assert 0 < len(transform.chosen) < 40
    assert all(torch.equal(batch[key], before[key]) for key in batch)


def test_rotation_and_scaling_come_as_often_as_asked() -> None:
    transform = RandAffineBatch((1, 1, 1), rotation_prob=0.2, scaling_prob=0.3, rotation_degrees=20)
    transform.set_random_state(seed=0)
    transform.randomize(20_000)
    rotated, scaled = (transform.angles != 0).all(axis=1), transform.factors != 1
    assert rotated.mean() == pytest.approx(0.2, abs=0.01)
    assert scaled.mean() == pytest.approx(0.3, abs=0.01)
    assert (rotated & scaled).mean() == pytest.approx(0.06, abs=0.01)
    assert np.abs(np.rad2deg(transform.angles)).max() == pytest.approx(20, abs=0.1)
    assert transform.factors.min() == pytest.approx(0.7, abs=0.01)
    assert transform.factors.max() == pytest.approx(1.4, abs=0.01)


def test_half_precision_images_are_resampled_in_float32() -> None:
    batch = blobs(SHAPE)
    half = {**batch, "image": batch["image"].bfloat16()}
    exact = always(SPACING)({**batch, "image": half["image"].float()})
    moved = always(SPACING)(half)
    assert moved["image"].dtype == torch.bfloat16
    assert torch.equal(moved["image"], exact["image"].bfloat16())


@pytest.mark.parametrize(("shape", "axes"), [((6, 8, 5), (0, 1, 2)), ((6, 8, 5), (1,)), ((6, 8), (0, 1))])
def test_flips_are_exact_and_only_on_the_axes_given(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    batch = blobs(shape, n=400)
    transform = RandFlipBatch(axes)
    transform.set_random_state(seed=2)
    flipped = transform(batch)
    for sample, row in enumerate(transform.flipped):
        dims = [axis + 1 for axis, flip in zip(axes, row, strict=True) if flip]
        for key in batch:
            assert torch.equal(flipped[key][sample], batch[key][sample].flip(dims))
    np.testing.assert_allclose(transform.flipped.mean(axis=0), 0.5, atol=0.1)


@pytest.mark.parametrize("shape", [(20, 24), (12, 14, 10)])
def test_targets_of_objects_move_as_the_image_does(shape: tuple[int, ...]) -> None:
    image = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    batch = {"image": image, "targets": image.repeat(1, 2, *[1] * len(shape))}
    moved = RandAffineBatch((1.0,) * len(shape), rotation_prob=1.0, scaling_prob=1.0).set_random_state(1)(batch)
    moved = RandFlipBatch(range(len(shape)), prob=1.0).set_random_state(1)(moved)
    assert not torch.allclose(moved["image"], image, atol=0.1)
    assert torch.equal(moved["targets"], moved["image"].repeat(1, 2, *[1] * len(shape)))
