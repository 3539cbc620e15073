import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from medseg.decoding import SOFTMAX, Decoding, Sigmoids
from medseg.plan import LearntRegion
from medseg.transforms import restoring
from medseg.transforms.resample import grid_with_spacing, resample
from medseg.transforms.restoring import Restored, Restoring, restore
from medseg.volume import Geometry, Spacing3, Volume

# Four outputs: a region that holds two others side by side, and one that lies across them.
REGIONS = Sigmoids(
    tuple(
        LearntRegion(name=str(value), values=values, value=value)
        for values, value in (((1, 2, 3, 4), 4), ((1,), 1), ((2, 3), 2), ((1, 3), 3))
    )
)
SPACINGS = [(1.0, 1.5, 3.0), (1.2, 1.2, 1.7), (0.7, 1.5, 0.8), (2.5, 4.0, 5.0)]


def oblique_source() -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (20, 5, 170), degrees=True).as_matrix() @ np.diag((1, 1.5, 3))
    affine[:3, 3] = (40, -20, 7)
    return Geometry((30, 24, 12), affine)


def cropped_grid(source: Geometry, orientation: str, spacing: Spacing3) -> Geometry:
    """The model grid of a source whose first three and last two voxels of an axis were cropped."""
    oriented = source.oriented_as(orientation)
    affine = oriented.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [3, 0, 0]
    x, y, z = oriented.shape
    return grid_with_spacing(Geometry((x - 5, y, z), affine), spacing)


def reference(
    logits: torch.Tensor, grid: Geometry, source: Geometry, orientation: str, decoding: Decoding = SOFTMAX
) -> np.ndarray:
    """All logits interpolated, then decoded, then put where the crop was."""
    oriented = source.oriented_as(orientation)
    affine = oriented.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [3, 0, 0]
    x, y, z = oriented.shape
    inside = Geometry((x - 5, y, z), affine)
    labels = np.zeros(oriented.shape, np.uint8)
    labels[3:-2] = decoding.labels(resample(logits, grid, inside), 0).numpy()
    return Volume(labels[None], oriented).oriented_as(source.orientation).label_map


def slabs(restoring_: Restoring, logits: torch.Tensor, height: int) -> None:
    last, axis = logits.permute(1, 2, 3, 0), restoring_.axis
    for start in range(0, last.shape[axis], height):
        first, stop = max(start - 1, 0), min(start + height, last.shape[axis])
        restoring_.take(last.narrow(axis, first, stop - first).contiguous(), first)


def random_logits(grid: Geometry, n_labels: int = 4) -> torch.Tensor:
    return torch.randn(n_labels, *grid.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("orientation", ["RAS", "PIR", "SLA"])
@pytest.mark.parametrize("decoding", [SOFTMAX, REGIONS])
def test_the_whole_equals_interpolation_of_all_logits(decoding: Decoding, orientation: str, spacing: Spacing3) -> None:
    source = oblique_source()
    grid = cropped_grid(source, orientation, spacing)
    logits = random_logits(grid)
    expected = reference(logits, grid, source, orientation, decoding)
    assert np.array_equal(restore(logits, grid, source, decoding), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("height", [1, 2, 5, 100])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_slabs_of_any_height_equal_the_whole(
    axis: int, height: int, spacing: Spacing3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "VOXELS_AT_ONCE", 1000)
    monkeypatch.setattr(restoring, "VALUES_AT_ONCE", 1000)
    source = oblique_source()
    grid = cropped_grid(source, "RAS", spacing)
    logits = random_logits(grid)
    by_slabs = Restoring(grid, source, axis)
    slabs(by_slabs, logits, height)
    assert np.array_equal(by_slabs.label_map, reference(logits, grid, source, "RAS"))


def test_a_third_label_wins_between_two() -> None:
    """At the border of two labels the one that is second to both may be largest."""
    source = Geometry((4, 1, 1), np.diag([1.0, 1, 1, 1]))
    grid = Geometry((2, 1, 1), np.diag([3.0, 1, 1, 1]))
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0], [2.2, 2.2]]).view(3, 2, 1, 1)
    assert restore(logits, grid, source).ravel().tolist() == [0, 2, 2, 1]


def test_observers_see_every_voxel_once_with_its_logits() -> None:
    source = oblique_source()
    grid = cropped_grid(source, "PIR", (1.2, 1.2, 1.7))
    logits = random_logits(grid)
    seen = np.zeros(source.shape, np.uint8)
    decoded = np.zeros(source.shape, np.uint8)

    def observe(part: Restored) -> None:
        by_slabs.oriented(seen)[part.place] += 1
        by_slabs.oriented(decoded)[part.place] = part.logits().argmax(0).numpy()
        part.label_map[part.label_map == 3] = 0  # what it writes is in the result

    by_slabs = Restoring(grid, source, 2, [observe])
    slabs(by_slabs, logits, 3)
    expected = reference(logits, grid, source, "PIR")
    inside = np.zeros(source.oriented_as("PIR").shape, np.uint8)
    inside[3:-2] = 1
    assert np.array_equal(by_slabs.oriented(seen), inside)
    assert np.array_equal(decoded, expected)
    assert np.array_equal(by_slabs.label_map, np.where(expected == 3, 0, expected))


def test_where_the_gpu_is_full_slabs_are_decoded_in_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    source = oblique_source()
    grid = cropped_grid(source, "RAS", (1.2, 1.2, 1.7))
    logits = random_logits(grid)
    decoded, failures = restoring._Slab.decoded, [torch.cuda.OutOfMemoryError("full")]

    def fails_once(slab: object, taps: object) -> torch.Tensor:
        if failures:
            raise failures.pop()
        return decoded(slab, taps)  # type: ignore[arg-type]

    monkeypatch.setattr(restoring._Slab, "decoded", fails_once)
    assert np.array_equal(restore(logits, grid, source), reference(logits, grid, source, "RAS"))
    assert not failures
