import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from medseg.errors import ConfigError, SourceError
from medseg.plan import Grid, Normalization
from medseg.transforms.prepared import prepare
from medseg.transforms.restoring import restore
from medseg.volume import Geometry, Volume


def phantom(spacing: tuple[float, float, float] = (1.0, 1.5, 3.0), degrees: float = 20.0) -> tuple[Volume, np.ndarray]:
    """An oblique LPS-like volume with a border of zeros, and two blocks as labels."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (degrees, 5, 170), degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = (40, -20, 7)
    shape = (30, 24, 12)
    label_map = np.zeros(shape, np.uint8)
    label_map[8:18, 6:14, 3:8] = 1
    label_map[18:24, 8:18, 4:9] = 2
    image = np.random.default_rng(0).normal(100, 5, shape) + 50 * label_map
    image[:4] = image[:, :3] = image[:, :, -2:] = 0
    return Volume(image[None], Geometry(shape, affine)), label_map


def grid(spacing: tuple[float, float, float], *, crop: bool = True, orientation: str = "RAS", **rest: object) -> Grid:
    return Grid(
        orientation=orientation, spacing=spacing, crop_to_nonzero=crop,
        normalization=(Normalization(kind="zscore"),), **rest,
    )  # fmt: skip


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("crop", [True, False])
def test_the_way_back_is_exact_where_nothing_is_interpolated(orientation: str, crop: bool) -> None:
    volume, label_map = phantom(spacing=(1.0, 1.0, 1.0))
    plan = grid((1.0, 1.0, 1.0), crop=crop, orientation=orientation)
    prepared = prepare(volume, label_map, plan)
    assert prepared.geometry.orientation == orientation
    logits = torch.nn.functional.one_hot(prepared.label_map.long(), 3).permute(3, 0, 1, 2).float()
    restored = restore(logits, prepared.geometry, prepared.source)
    assert np.array_equal(restored, label_map)


def test_a_landmark_stays_at_its_place_in_the_world() -> None:
    volume, _ = phantom()
    image = np.ones(volume.geometry.shape)
    image[20, 10, 5] = 1000
    prepared = prepare(Volume(image[None], volume.geometry), None, grid((1.0, 1.0, 1.0)))
    peak = np.unravel_index(int(prepared.image[0].argmax()), prepared.image.shape[1:])
    distance = np.linalg.norm(prepared.geometry.world(peak) - volume.geometry.world((20, 10, 5)))
    assert distance < np.sqrt(3) / 2  # half the diagonal of a model voxel


def test_resampled_labels_come_back_nearly_the_same() -> None:
    volume, label_map = phantom()
    prepared = prepare(volume, label_map, grid((1.2, 1.2, 1.7)))
    logits = torch.nn.functional.one_hot(prepared.label_map.long(), 3).permute(3, 0, 1, 2).float()
    restored = restore(logits, prepared.geometry, prepared.source)
    for value in (1, 2):
        both = ((restored == value) & (label_map == value)).sum()
        assert 2 * both / ((restored == value).sum() + (label_map == value).sum()) > 0.93


def test_zscore_and_ct_normalization() -> None:
    volume, _ = phantom()
    image = prepare(volume, None, grid((1.0, 1.5, 3.0))).image
    assert float(image.mean()) == pytest.approx(0, abs=1e-5)
    assert float(image.std()) == pytest.approx(1, abs=1e-3)
    ct = Normalization(kind="ct", lower=-50, upper=150, mean=50, std=25)
    plan = grid((1.0, 1.5, 3.0)).model_copy(update={"normalization": (ct,)})
    image = prepare(volume, None, plan).image
    assert float(image.max()) == pytest.approx(4)
    nonzero = grid((1.0, 1.5, 3.0), crop=False).model_copy(
        update={"normalization": (Normalization(kind="zscore", nonzero=True),)}
    )
    image = prepare(volume, None, nonzero).image
    assert float((image == 0).float().mean()) > 0.2  # the black border stays exactly zero


def test_zscore_is_exact_on_bright_images() -> None:
    volume, _ = phantom()
    bright = Volume((volume.array + 1e4).astype(np.float32), volume.geometry)
    image = prepare(bright, None, grid((1.0, 1.5, 3.0))).image.numpy()
    values = bright.array.astype(np.float64)
    expected = (values - values.mean()) / values.std()
    assert np.sort(image.ravel()) == pytest.approx(np.sort(expected.ravel()), abs=1e-3)


def test_types_that_a_transform_changes_are_brought_back() -> None:
    volume, label_map = phantom()
    spec = {"name": "CastToTyped", "keys": ["image", "label"], "dtype": "float64"}
    prepared = prepare(volume, label_map, grid((1.0, 1.5, 3.0), transforms=(spec,)))
    assert prepared.image.dtype == torch.float32
    assert prepared.label_map is not None
    assert prepared.label_map.dtype == torch.uint8


def test_an_image_of_zeros_is_prepared_whole() -> None:
    volume, _ = phantom()
    black = Volume(np.zeros_like(volume.array), volume.geometry)
    assert prepare(black, None, grid((1.0, 1.5, 3.0))).geometry.shape == volume.geometry.shape


def test_any_monai_transform_of_values_can_be_added_by_name() -> None:
    volume, _ = phantom()
    spec = {"name": "ScaleIntensityd", "keys": ["image"], "minv": 0.0, "maxv": 1.0}
    image = prepare(volume, None, grid((1.0, 1.5, 3.0), transforms=(spec,))).image
    assert (float(image.min()), float(image.max())) == (0.0, 1.0)


def test_transforms_that_break_the_grid_are_refused() -> None:
    volume, _ = phantom()
    spec = {"name": "SpatialPadd", "keys": ["image"], "spatial_size": [64, 64, 64]}
    with pytest.raises(ConfigError, match="SpatialPadd changes the grid"):
        prepare(volume, None, grid((1.0, 1.5, 3.0), transforms=(spec,)))


def test_a_wrong_number_of_channels_is_refused() -> None:
    volume, _ = phantom()
    two = Volume(np.concatenate([volume.array, volume.array]), volume.geometry)
    with pytest.raises(SourceError, match="2 channels where the plan has 1"):
        prepare(two, None, grid((1.0, 1.5, 3.0)))
