"""Certificates judge masks by the source's own headers: an image that was read wrong gets no certificate."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_kinds import KINDS
from pydicom import Dataset, dcmread
from pydicom.dataset import PrivateBlock
from pydicom.uid import DigitalXRayImageStorageForProcessing

from medseg.errors import GeometryError, OutputError
from medseg.io.certificates.raw_slices import raw_slices
from medseg.io.dicom import series
from medseg.io.dicom.geometry import SlicePlane
from medseg.io.discover import image_sources
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, write_mask
from medseg.io.read import read_geometry
from medseg.labels import Labels
from medseg.volume import Geometry

SegmentedBalls = Callable[..., LabelMapVolume]


def half_a_pixel(plane: SlicePlane) -> SlicePlane:
    shift = plane.along_row * plane.pixel_spacing[0] + plane.down_column * plane.pixel_spacing[1]
    return replace(plane, position=plane.position + shift / 2)


def a_wider_pixel(plane: SlicePlane) -> SlicePlane:
    return replace(plane, pixel_spacing=(plane.pixel_spacing[0] * 1.01, plane.pixel_spacing[1]))


def other_way_round(plane: SlicePlane) -> SlicePlane:
    return replace(plane, down_column=-plane.down_column)


@pytest.mark.parametrize("wrong", [half_a_pixel, a_wider_pixel, other_way_round])
@pytest.mark.parametrize("name", FORMATS)
def test_a_reader_that_places_slices_wrong_is_caught(
    wrong: Callable[[SlicePlane], SlicePlane],
    name: str,
    segmented_balls: SegmentedBalls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The very same wrong place in the image and in its mask."""
    right = series.plane_of
    monkeypatch.setattr(series, "plane_of", lambda header: wrong(right(header)))
    mask = segmented_balls(tmp_path / "series")
    with pytest.raises(OutputError, match="mm away from its place"):
        write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), mask)


def test_a_reader_of_frames_that_is_wrong_is_caught(
    segmented_balls: SegmentedBalls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one was that took the positions in private sequences for those of the frames."""
    right = series.plane_of
    monkeypatch.setattr(series, "plane_of", lambda header: half_a_pixel(right(header)))
    mask = segmented_balls(tmp_path / "series", "enhanced")
    for name in ("nifti", "dicom-seg", "dicom-seg-grid", "rtstruct"):
        with pytest.raises(OutputError, match=r"0\.\d+ mm away from its place"):
            write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), mask)


def test_what_private_sequences_say_is_not_asked(segmented_balls: SegmentedBalls, tmp_path: Path) -> None:
    """As Philips writes them into every frame: a second position, of the corner instead of the centre of a pixel."""
    mask = segmented_balls(tmp_path / "series", "enhanced")
    assert mask.source is not None
    path, frame = mask.source.files[0], Dataset()
    frame.ImagePositionPatient = [1.0, 2.0, 3.0]
    before = raw_slices(mask.source)
    header = dcmread(path)
    for groups in header.PerFrameFunctionalGroupsSequence:
        block: PrivateBlock = groups.private_block(0x2005, "A MAKER'S FRAMES", create=True)
        block.add_new(0x0F, "SQ", [frame])
    header.save_as(path)
    after = raw_slices(mask.source)
    assert before is not None and after is not None
    np.testing.assert_array_equal(before.corners, after.corners)


@pytest.mark.parametrize("kind", ["oblique", "tilted by 20°", "tilted by -20°", "uneven", "missing slice", "enhanced"])
def test_how_far_a_grid_is_off(kind: str, segmented_balls: SegmentedBalls, tmp_path: Path) -> None:
    mask = segmented_balls(tmp_path / "series", kind)
    grid, slices = mask.geometry, mask.slices
    assert slices is not None
    assert slices.off_mm(grid) < 1e-4
    for axis, pixels in ((0, 0.4), (1, -0.3), (2, 0.2)):
        moved = grid.affine.copy()
        moved[:3, 3] += grid.affine[:3, axis] * pixels
        assert slices.off_mm(Geometry(grid.shape, moved)) == pytest.approx(abs(pixels) * grid.spacing[axis])
    if KINDS[kind].is_grid:
        moved = grid.affine.copy()
        moved[:3, 3] += grid.affine[:3, 0]
        assert slices.off_mm(Geometry(grid.shape, moved)) == pytest.approx(grid.spacing[0])
    stretched = grid.affine @ np.diag([1, 1, 1.02, 1])
    assert slices.off_mm(Geometry(grid.shape, stretched)) > 0.3


def test_mosaics_lie_where_nibabel_says(real_data: Path) -> None:
    """0.45 of a pixel of 3.25 mm is 1.4 mm."""
    found = image_sources(real_data / "dicom_reference" / "transfer_syntaxes" / "In").sources
    slices, grid = raw_slices(found[0]), read_geometry(found[0])
    assert slices is not None and len(slices.slices) == grid.shape[2] == 35
    assert slices.off_mm(grid) < 1e-5
    moved = grid.affine.copy()
    moved[:3, 3] += grid.affine[:3, 1] * 0.45
    assert slices.off_mm(Geometry(grid.shape, moved)) == pytest.approx(0.45 * grid.spacing[1], rel=1e-4)


def test_a_source_that_has_no_place(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> None:
    """An X-ray, whatever its header says of one: only formats that lie on slices need to know."""
    (path,) = write_slices(
        tmp_path / "xray", np.zeros((1, 8, 9), np.int16), SOPClassUID=DigitalXRayImageStorageForProcessing
    )
    (source,) = image_sources(path).sources
    label_map = np.zeros((9, 8, 1), np.uint8)
    label_map[2:5, 3:6] = 1
    mask = LabelMapVolume(label_map, read_geometry(source), Labels.from_names({"lung": 1}), source)
    assert mask.slices is None
    assert write_mask(FORMATS["nifti"], tmp_path / "case.nii.gz", mask).certificate.passed
    with pytest.raises(GeometryError, match="an X-ray projection has no place"):
        write_mask(FORMATS["dicom-seg"], tmp_path / "case.dcm", mask)
