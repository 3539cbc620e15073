import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medseg.errors import GeometryError
from medseg.transforms.interpolation import resample_axis
from medseg.transforms.resample import grid_with_spacing, resample, resample_label_map
from medseg.volume import Geometry


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    affine = np.diag((*spacing, 1.0))
    affine[:3, 3] = (-5, 10, 20)
    return Geometry(shape, affine)


def itk(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.affine[:3, 3].tolist())
    return image


def test_the_new_grid_covers_the_same_box() -> None:
    old = grid((10, 20, 7), (1.0, 0.7, 3.0))
    new = grid_with_spacing(old, (2.0, 1.4, 1.5))
    assert new.shape == (5, 10, 14)
    assert np.allclose(old.world((-0.5, -0.5, -0.5)), new.world((-0.5, -0.5, -0.5)))
    far_old, far_new = np.array(old.shape) - 0.5, np.array(new.shape) - 0.5
    assert np.allclose(old.world(far_old), new.world(far_new))


@pytest.mark.parametrize("spacing", [(0.6, 0.6, 1.0), (2.0, 1.4, 1.5), (1.0, 0.7, 1.1)])
def test_linear_resampling_equals_simpleitk(spacing: tuple[float, float, float]) -> None:
    source = grid((12, 15, 9), (1.0, 0.7, 3.0))
    array = np.random.default_rng(0).normal(size=source.shape).astype(np.float32)
    target = grid_with_spacing(source, spacing)
    ours = resample(torch.from_numpy(array)[None], source, target)[0].numpy()
    theirs = sitk.Resample(
        itk(array, source), itk(np.zeros(target.shape, np.float32), target), sitk.Transform(), sitk.sitkLinear
    )
    inside = sitk.Resample(
        itk(array * 0 + 1, source),
        itk(np.zeros(target.shape, np.float32), target),
        sitk.Transform(),
        sitk.sitkLinear,
    )
    known = sitk.GetArrayFromImage(inside).T > 0.5
    # SimpleITK says nothing beyond the outermost voxel centres; half a voxel around is all that may be missing.
    assert known.mean() > 0.5
    assert np.abs(ours - sitk.GetArrayFromImage(theirs).T)[known].max() < 1e-4


def test_cubic_resampling_is_exact_for_quadratics() -> None:
    x = torch.arange(20, dtype=torch.float64)
    wanted = torch.linspace(2, 17, 31, dtype=torch.float64)
    values = resample_axis((0.3 * x**2 - 2 * x + 1)[None], wanted, 1, "cubic")[0]
    assert torch.allclose(values, 0.3 * wanted**2 - 2 * wanted + 1, atol=1e-9)


def test_there_and_back_is_the_identity_on_a_grid_of_whole_steps() -> None:
    source = grid((6, 5, 4), (1.0, 1.0, 1.0))
    array = torch.rand(1, 6, 5, 4)
    assert resample(array, source, source) is array
    shifted = Geometry((3, 5, 4), source.affine @ np.array([[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert torch.equal(resample(array, source, shifted), array[:, 2:5])


def test_label_maps_get_no_new_values_and_keep_their_volume() -> None:
    source = grid((20, 20, 8), (1.0, 1.0, 3.0))
    label_map = torch.zeros(source.shape, dtype=torch.uint8)
    label_map[4:12, 5:15, 2:6] = 1
    label_map[12:17, 5:15, 2:6] = 4
    target = grid_with_spacing(source, (1.5, 1.5, 1.0))
    result = resample_label_map(label_map, source, target)
    assert set(result.unique().tolist()) == {0, 1, 4}
    for value in (1, 4):
        before = float((label_map == value).sum()) * source.voxel_volume_ml
        after = float((result == value).sum()) * target.voxel_volume_ml
        assert after == pytest.approx(before, rel=0.15)


def test_label_maps_are_resampled_slab_by_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    source = grid((9, 7, 11), (1.0, 1.0, 3.0))
    label_map = torch.randint(0, 4, source.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for spacing in ((1.5, 0.7, 1.0), (2.0, 2.0, 6.0), (0.5, 0.5, 7.3)):
        target = grid_with_spacing(source, spacing)
        whole = resample_label_map(label_map, source, target)
        shares = torch.stack([resample((label_map == v)[None].float(), source, target)[0] for v in range(4)])
        assert torch.equal(whole, shares.argmax(0).to(torch.uint8))
        monkeypatch.setattr("medseg.transforms.resample.VOXELS_PER_SLAB", 1)
        assert torch.equal(resample_label_map(label_map, source, target), whole)
        monkeypatch.undo()


def test_grids_that_are_not_parallel_are_refused() -> None:
    source = grid((6, 6, 6), (1.0, 1.0, 1.0))
    turned = Geometry((6, 6, 6), source.affine[:, [1, 0, 2, 3]])
    with pytest.raises(GeometryError, match="not parallel"):
        resample(torch.zeros(1, 6, 6, 6), source, turned)
