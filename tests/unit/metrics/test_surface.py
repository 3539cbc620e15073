import tracemalloc
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK

from medseg.metrics import surface
from medseg.metrics.surface import SurfaceDistances, _element_areas, surface_dice, surface_distances

Mask = npt.NDArray[np.bool_]


def box(shape: tuple[int, int, int], start: tuple[int, int, int], size: tuple[int, int, int]) -> Mask:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def sphere(radius_mm: float, spacing: tuple[float, float, float], n: int = 64) -> Mask:
    places = np.indices((n, n, n)).T * spacing
    return np.asarray(radius_mm >= np.linalg.norm(places - places.mean((0, 1, 2)), axis=-1).T)


def distances(prediction: Mask, reference: Mask, spacing: tuple[float, float, float]) -> SurfaceDistances:
    found = surface_distances(prediction, reference, spacing)
    assert found is not None
    return found


def monai_metrics(
    prediction: Mask, reference: Mask, spacing: tuple[float, ...], tolerance_mm: float
) -> tuple[float, float, float, float]:
    """HD, HD95, ASSD, NSD."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    flat = prediction.shape[2] == 1
    masks = [torch.tensor(m[..., 0] if flat else m)[None, None].float() for m in (prediction, reference)]
    spacing = spacing[:2] if flat else spacing
    hd, hd95 = (
        compute_hausdorff_distance(*masks, include_background=True, percentile=percentile, spacing=spacing)
        for percentile in (None, 95)
    )
    assd = compute_average_surface_distance(*masks, include_background=True, symmetric=True, spacing=spacing)
    nsd = compute_surface_dice(*masks, [tolerance_mm], include_background=True, spacing=spacing, use_subvoxels=True)
    return float(hd), float(hd95), float(assd), float(nsd)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.98, 0.97, 3.27), (2.0, 1.0, 0.5)])
def test_element_areas_are_those_of_surface_distance(spacing: tuple[float, float, float]) -> None:
    from monai.metrics.utils import create_table_neighbour_code_to_surface_area

    # MONAI counts the corners from the other end; its table is symmetric under turning the cube around its
    # centre.
    table = create_table_neighbour_code_to_surface_area(spacing)[0].numpy()
    turned = [int(f"{code:08b}"[::-1], 2) for code in range(256)]
    np.testing.assert_allclose(_element_areas(spacing)[turned], table, atol=1e-5)


@pytest.mark.parametrize("axis, shift_mm", [(0, 2.0), (1, 3.0), (2, 8.0)])
def test_shifted_box_is_off_by_the_shift_in_mm(axis: int, shift_mm: float) -> None:
    spacing = (1.0, 1.5, 4.0)
    reference = box((40, 40, 40), (10, 10, 10), (12, 12, 12))
    prediction = np.roll(reference, 2, axis)
    assert distances(prediction, reference, spacing).hd95_mm == pytest.approx(shift_mm)
    assert surface_dice(prediction, reference, spacing, shift_mm) == pytest.approx(1.0)
    assert 0 < (surface_dice(prediction, reference, spacing, shift_mm - 0.6) or 0) < 1


def test_concentric_spheres_are_apart_by_the_difference_of_their_radii() -> None:
    spacing = (0.5, 0.5, 0.7)
    small, large = sphere(8.0, spacing), sphere(11.0, spacing)
    found = distances(small, large, spacing)
    assert (found.hd_mm, found.hd95_mm, found.assd_mm) == pytest.approx((3.0, 3.0, 3.0), abs=0.5)
    assert surface_dice(small, large, spacing, 4.0) == 1.0
    assert surface_dice(small, large, spacing, 2.0) == 0.0


def test_surface_elements_count_by_their_area() -> None:
    """A plate and a block, 30 x 30 mm and 1 and 11 mm high, on one base. Without areas: 0.32."""
    spacing = (1.0, 1.0, 0.25)
    plate = box((40, 40, 60), (5, 5, 5), (30, 30, 4))
    block = box((40, 40, 60), (5, 5, 5), (30, 30, 44))
    base, rim = 30 * 30, 4 * 30
    plate_within = base + rim * 1.0 + rim * 0.5  # base, sides, and half a voxel of the top at the block's sides
    block_within = base + rim * 1.5
    total = (2 * base + rim * 1) + (2 * base + rim * 11)
    expected = (plate_within + block_within) / total
    assert surface_dice(plate, block, spacing, 0.5) == pytest.approx(expected, rel=0.005)


def test_distances_are_those_of_simpleitk(real_data: Path) -> None:
    """SimpleITK's distance map of one edge, read off at the other: an independent way to the same numbers."""
    spacing = (0.9, 1.1, 2.5)
    label_map = np.asarray(nibabel.load(real_data / "hippocampus/labelsTr/hippocampus_001.nii.gz").dataobj)
    reference = label_map == 1
    prediction = np.roll(reference, (2, 1), (0, 2)) | np.roll(reference, -1, 1)
    images = [SimpleITK.GetImageFromArray(mask.T.astype(np.uint8)) for mask in (prediction, reference)]
    edges = [SimpleITK.BinaryContour(image, fullyConnected=False) for image in images]
    directed = []
    for edge, other in (edges, edges[::-1]):
        other.SetSpacing(spacing)
        far = SimpleITK.SignedMaurerDistanceMap(other, squaredDistance=False, useImageSpacing=True)
        directed.append(np.abs(SimpleITK.GetArrayFromImage(far))[SimpleITK.GetArrayFromImage(edge) == 1])
    ours = distances(prediction, reference, spacing)
    assert ours.hd_mm == pytest.approx(max(each.max() for each in directed), abs=1e-4)
    assert ours.hd95_mm == pytest.approx(max(np.percentile(each, 95) for each in directed), abs=1e-4)
    assert ours.assd_mm == pytest.approx(np.concatenate(directed).mean(), abs=1e-4)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.9)])
@pytest.mark.parametrize(
    "name", ["hippocampus/labelsTr/hippocampus_004.nii.gz", "sarcoma/nifti/STS_001/CT_mask.nii.gz"]
)
def test_real_masks_agree_with_monai(real_data: Path, name: str, spacing: tuple[float, float, float]) -> None:
    reference = np.asarray(nibabel.load(real_data / name).dataobj) == 1
    noise = np.random.default_rng(1).random(reference.shape) > 0.4
    prediction = np.roll(reference, (1, -1), (0, 1)) | (np.roll(reference, 2, 2) & noise)
    fullest = int(reference.sum((0, 1)).argmax())
    for cut in (slice(None), slice(fullest, fullest + 1)):
        pair = prediction[:, :, cut], reference[:, :, cut]
        *far, nsd = monai_metrics(*pair, spacing, 1.2)
        ours = distances(*pair, spacing)
        assert (ours.hd_mm, ours.hd95_mm, ours.assd_mm) == pytest.approx(far, abs=1e-4)
        assert surface_dice(*pair, spacing, 1.2) == pytest.approx(nsd, abs=1e-5)
        assert 0.2 < nsd < 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.9)])
def test_real_masks_agree_with_deepmind(real_data: Path, spacing: tuple[float, float, float]) -> None:
    import surface_distance

    reference = np.asarray(nibabel.load(real_data / "hippocampus/labelsTr/hippocampus_004.nii.gz").dataobj) == 1
    prediction = np.roll(reference, (1, -1), (0, 1))
    judged = surface_distance.compute_surface_distances(reference, prediction, spacing)
    for tolerance_mm in (0.5, 1.0, 2.0):
        nsd = surface_distance.compute_surface_dice_at_tolerance(judged, tolerance_mm)
        assert surface_dice(prediction, reference, spacing, tolerance_mm) == pytest.approx(nsd, abs=1e-6)


@pytest.mark.parametrize("shape", [(20, 24, 16), (30, 30, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_masks_like_noise_are_measured_by_a_distance_map_to_the_same_result(
    shape: tuple[int, int, int], order: Literal["C", "F"], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    pair = [np.asarray(random.random(shape) < part, order=order) for part in (0.3, 0.02)]
    spacing = (0.7, 1.3, 2.9)

    def measured(points_per_map: float) -> tuple[float | None, ...]:
        monkeypatch.setattr(surface, "POINTS_PER_MAP", points_per_map)
        found = distances(*pair, spacing)
        return found.hd_mm, found.hd95_mm, found.assd_mm, surface_dice(*pair, spacing, 1.5)

    by_map, by_tree = measured(-np.inf), measured(np.inf)
    assert by_map == pytest.approx(by_tree, abs=1e-5)
    assert by_map == pytest.approx(monai_metrics(*pair, spacing, 1.5), abs=1e-4)


def test_mask_at_the_border_agrees_with_monai() -> None:
    prediction = box((8, 9, 10), (0, 0, 0), (8, 4, 10))
    reference = box((8, 9, 10), (0, 0, 0), (8, 7, 10))
    _, hd95, _, nsd = monai_metrics(prediction, reference, (1.0, 2.0, 3.0), 1.0)
    assert distances(prediction, reference, (1.0, 2.0, 3.0)).hd95_mm == pytest.approx(hd95)
    assert surface_dice(prediction, reference, (1.0, 2.0, 3.0), 1.0) == pytest.approx(nsd, abs=1e-6)


def test_an_image_of_one_slice_is_measured_in_its_plane() -> None:
    reference = box((20, 20, 1), (5, 5, 0), (8, 8, 1))
    prediction = np.roll(reference, 3, 1)
    assert distances(prediction, reference, (1.0, 1.0, 1.0)).hd95_mm == 3.0
    # Were slices surfaces, all of the overlap would lie within 0 mm.
    contour = surface_dice(prediction, reference, (1.0, 1.0, 1.0), 0.0) or 0.0
    assert 0 < contour < 0.5
    sagittal = [np.moveaxis(mask, 2, 0) for mask in (prediction, reference)]
    assert surface_dice(*sagittal, (1.0, 1.0, 1.0), 0.0) == pytest.approx(contour)


def test_spacing_rounded_by_a_header_changes_nothing() -> None:
    reference = box((20, 20, 20), (5, 5, 5), (8, 8, 8))
    prediction = np.roll(reference, 1, 0)
    assert surface_dice(prediction, reference, (1.0000001, 1.0, 1.0), 1.0) == pytest.approx(1.0)


def test_empty_masks() -> None:
    empty, full = np.zeros((5, 5, 5), bool), np.ones((5, 5, 5), bool)
    spacing = (1.0, 1.0, 1.0)
    assert surface_distances(empty, full, spacing) is None
    assert surface_distances(empty, empty, spacing) is None
    assert surface_dice(empty, full, spacing, 1.0) == 0.0
    assert surface_dice(full, empty, spacing, 1.0) == 0.0
    assert surface_dice(empty, empty, spacing, 1.0) is None


@pytest.mark.parametrize("shape", [(9, 8, 7), (9, 8, 1), (1, 8, 7), (9, 1, 7)])
@pytest.mark.parametrize("density", [0.02, 0.6])
def test_the_size_of_the_slabs_changes_nothing(
    shape: tuple[int, int, int], density: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    prediction, reference = random.random((2, *shape)) < density
    prediction[:2], spacing = True, (0.7, 1.3, 2.0)

    def measured() -> tuple[np.ndarray, np.ndarray, float | None]:
        found = surface_distances(prediction, reference, spacing)
        assert found is not None
        return found.to_reference, found.to_prediction, surface_dice(prediction, reference, spacing, 1.0)

    whole = measured()
    for voxels in (1, 2 * shape[1] * shape[2], 5 * shape[1] * shape[2]):
        monkeypatch.setattr(surface, "SLAB_VOXELS", voxels)
        monkeypatch.setattr(surface, "QUERY_POINTS", 3)
        for one, other in zip(whole, measured(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_label_that_fills_the_volume_needs_little_more_than_its_masks() -> None:
    reference = np.ones((200, 200, 200), bool)
    prediction = reference.copy()
    reference[:3] = prediction[:5] = False
    tracemalloc.start()
    try:
        surface_distances(prediction, reference, (1.0, 1.0, 1.0))
        surface_dice(prediction, reference, (1.0, 1.0, 1.0), 1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * reference.nbytes  # points take 32 bytes each, and there are 240,000
