import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import RLELossless

from medseg.errors import GeometryError, SourceError
from medseg.io.dicom.series import find_series, source_planes
from medseg.io.dicom_seg.reader import dicom_seg_headers, read_dicom_seg
from medseg.io.read import read_geometry, read_segmentation
from medseg.terminology import Code
from medseg.volume import Geometry

Write = Callable[..., Path]
WriteSlices = Callable[..., list[Path]]

RANDOM = np.random.default_rng(0)
OBLIQUE = (0.96, 0.28, 0.0, -0.168, 0.576, 0.8)
FIRST = np.array([-20.0, 13.0, 7.0])  # of the slices that ``write_slices`` writes, too


def pixels(rows: int = 5, columns: int = 7) -> np.ndarray:
    return RANDOM.random((rows, columns)) < 0.4


def along_normal(orientation: tuple[float, ...], mm: float) -> np.ndarray:
    return FIRST + np.cross(orientation[:3], orientation[3:]) * mm


def by_simpleitk(path: Path) -> tuple[np.ndarray, Geometry]:
    """Voxels (x, y, z) and their grid in RAS."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, Geometry(image.GetSize(), np.diag([-1, -1, 1, 1]) @ affine)


# Which numbers of segments each of dcmqi's files holds; 5 in the last but one marks what the DICOM leaves out.
DCMQI = {
    "liver.dcm": {"liver_seg.nrrd": [1]},
    "partial_overlaps.dcm": {
        "partial_overlaps-1.nrrd": [1, 4, 5], "partial_overlaps-2.nrrd": [2], "partial_overlaps-3.nrrd": [3],
    },
    "23x38x3/seg/label.seg": {"23x38x3/nrrd/label.nrrd": [1]},
    "24x38x3/seg/label.seg": {"24x38x3/nrrd/label.nrrd": [1]},
    "sparse-labelmap-ppv5.dcm": {"sparse_labelmap_ppv5_seg.nrrd": [1]},
    "sparse-labelmap-noppv.dcm": {"sparse_labelmap_noppv_seg.nrrd": [1]},
}  # fmt: skip


@pytest.mark.parametrize("name", DCMQI)
def test_real_segmentations_equal_dcmqi(real_data: Path, name: str) -> None:
    folder = real_data / "dicom_seg" / "segmentations"
    own = read_dicom_seg(folder / name)
    told = []
    for nrrd, numbers in DCMQI[name].items():
        expected, grid = by_simpleitk(folder / nrrd)
        assert own.geometry.difference(grid) is None
        for found in (own, read_dicom_seg(folder / name, grid)):
            for segment in found.segments:
                if segment.number in numbers:
                    np.testing.assert_array_equal(found.mask(segment), expected == segment.number)
                    assert (expected == segment.number).any()
        told += numbers
    assert sorted(told) == [segment.number for segment in own.segments]
    assert not own.notes


def test_real_names_colours_and_codes(real_data: Path) -> None:
    folder = real_data / "dicom_seg" / "segmentations"
    (liver,) = dicom_seg_headers(folder / "liver.dcm")
    assert (liver.name, liver.colour) == ("Liver", (221, 130, 101))  # the liver of 3D Slicer's colour table
    assert liver.type == Code(scheme="SRT", value="T-62000", meaning="Liver")
    names = [header.name for header in dicom_seg_headers(folder / "partial_overlaps.dcm")]
    assert names == ["GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"]


@pytest.mark.parametrize("name", ["heart_seg", "liver_spine_seg", "liver_spine_gapped_seg", "spine_seg_label5"])
def test_what_dcmqi_writes_of_its_other_label_maps(real_data: Path, tmp_path: Path, name: str) -> None:
    """They lie beside the DICOM files, as inputs of dcmqi's own tests."""
    import json
    import subprocess
    import sys

    tool = shutil.which("itkimage2segimage", path=str(Path(sys.executable).parent)) or shutil.which("itkimage2segimage")
    if tool is None:
        pytest.skip("no itkimage2segimage; pip install dcmqi")
    folder = real_data / "dicom_seg" / "segmentations"
    expected, grid = by_simpleitk(folder / f"{name}.nrrd")
    codes = {"CodeValue": "10200004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Liver"}
    attributes = [
        {
            "labelID": int(value),
            "SegmentDescription": f"value {value}",
            "SegmentAlgorithmType": "MANUAL",
            "SegmentedPropertyCategoryCodeSequence": codes,
            "SegmentedPropertyTypeCodeSequence": codes,
            "recommendedDisplayRGBValue": [10, int(value) * 40, 200],
        }
        for value in np.unique(expected)[1:]
    ]
    meta = {"SeriesNumber": "300", "InstanceNumber": "1", "segmentAttributes": [attributes]}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    arguments = ["--inputMetadata", str(tmp_path / "meta.json"), "--inputImageList", str(folder / f"{name}.nrrd")]
    output = ["--inputDICOMDirectory", str(folder / "ct-3slice"), "--outputDICOM", str(tmp_path / "seg.dcm"), "--skip"]
    subprocess.run([tool, *arguments, *output], check=True, capture_output=True)
    found = read_dicom_seg(tmp_path / "seg.dcm", grid)
    assert len(found.segments) == len(attributes)
    for segment, value in zip(found.segments, np.unique(expected)[1:], strict=True):
        np.testing.assert_array_equal(found.mask(segment), expected == value)
        np.testing.assert_allclose(segment.colour, (10, value * 40, 200), atol=1)


def test_a_number_that_no_segment_can_have_is_refused(tmp_path: Path, write_seg: Write) -> None:
    path = write_seg(tmp_path / "a.dcm", [(1, FIRST, pixels())])
    header = pydicom.dcmread(path)
    element = header.SegmentSequence[0]["SegmentNumber"]
    element.VR, element.value = "SL", -2147483648
    header.save_as(path)
    for read in (dicom_seg_headers, read_dicom_seg):
        with pytest.raises(SourceError, match="SegmentNumber is -2147483648, which no segment can have"):
            read(path)


@pytest.mark.parametrize("shared_groups", [True, False])
def test_frames_in_any_order_with_absent_slices(tmp_path: Path, write_seg: Write, shared_groups: bool) -> None:
    one, other, third = pixels(), pixels(), pixels()
    frames = [
        (2, tuple(along_normal(OBLIQUE, 7.5)), third),
        (1, tuple(along_normal(OBLIQUE, 0)), one),
        (1, tuple(along_normal(OBLIQUE, 7.5)), other),
    ]
    path = write_seg(tmp_path / "a.dcm", frames, orientation=OBLIQUE, shared_groups=shared_groups)
    found = read_dicom_seg(path)
    assert found.geometry.shape == (7, 5, 4)
    np.testing.assert_allclose(found.geometry.spacing, (0.7, 0.5, 2.5), atol=1e-6)
    np.testing.assert_allclose(found.geometry.world((0, 0, 0)) * [-1, -1, 1], FIRST, atol=1e-6)
    np.testing.assert_allclose(found.geometry.world((0, 0, 3)) * [-1, -1, 1], along_normal(OBLIQUE, 7.5), atol=1e-6)
    empty = np.zeros_like(one)
    first, second = (found.mask(segment).T for segment in found.segments)
    np.testing.assert_array_equal(first, [one, empty, empty, other])
    np.testing.assert_array_equal(second, [empty, empty, empty, third])


def test_the_smallest_distance_tells_absent_slices_when_none_is_declared(tmp_path: Path, write_seg: Write) -> None:
    heights = (0, 1.25, 5)
    frames = [(1, (0, 0, height), pixels()) for height in heights]
    path = write_seg(tmp_path / "a.dcm", frames, between=None, thickness=2.0)
    found = read_dicom_seg(path)
    assert found.geometry.shape[2] == 5
    assert found.layers[0].any(axis=(0, 1)).tolist() == [True, True, False, False, True]


def test_fractions_from_one_half_on(tmp_path: Path, write_seg: Write) -> None:
    values = np.array([[0, 99, 100], [101, 200, 50]], dtype=np.uint8)
    for kind in ("PROBABILITY", "OCCUPANCY"):
        path = write_seg(
            tmp_path / "a.dcm", [(1, (0, 0, 0), values)], kind="FRACTIONAL", MaximumFractionalValue=200,
            SegmentationFractionalType=kind,
        )  # fmt: skip
        found = read_dicom_seg(path)
        np.testing.assert_array_equal(found.mask(found.segments[0])[:, :, 0].T, values >= 100)
        assert found.notes == (f"fractional segments ({kind.lower()}): voxels of at least 0.5 are taken",)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_maps_without_their_background(tmp_path: Path, write_seg: Write, dtype: type) -> None:
    values = np.array([[0, 1, 3], [7, 9, 1]], dtype=dtype)
    names = {0: "Background", 1: "liver", 3: "spleen"}
    frames = [(0, (0, 0, 0), values), (0, (0, 0, 5), values[:, ::-1])]
    path = write_seg(tmp_path / "a.dcm", frames, kind="LABELMAP", names=names, PixelPaddingValue=7)
    found = read_dicom_seg(path)
    assert [(segment.number, segment.name) for segment in found.segments] == [(1, "liver"), (3, "spleen")]
    np.testing.assert_array_equal(found.mask(found.segments[0])[:, :, 2].T, values[:, ::-1] == 1)
    np.testing.assert_array_equal(found.mask(found.segments[1])[:, :, 0].T, values == 3)
    assert not found.layers[0][:, :, 1].any()
    assert found.notes == ("values [9] are no segment's; taken as background",)
    assert len(dicom_seg_headers(path)) == 2


def test_compressed_frames(tmp_path: Path, write_seg: Write) -> None:
    values = RANDOM.integers(0, 4, (2, 40, 50)).astype(np.uint8)
    frames = [(0, (0, 0, 2.5 * i), values[i]) for i in range(2)]
    path = write_seg(tmp_path / "a.dcm", frames, kind="LABELMAP", names={1: "a", 2: "b", 3: "c"})
    header = pydicom.dcmread(path)
    header.compress(RLELossless)
    header.save_as(path)
    np.testing.assert_array_equal(read_dicom_seg(path).layers[0].T, values)


def test_segments_by_their_numbers_through_read_volume(tmp_path: Path, write_seg: Write) -> None:
    from medseg.io.read import read_volume

    big, small = np.ones((4, 4), dtype=bool), np.eye(4, dtype=bool)
    path = write_seg(tmp_path / "a.dcm", [(4, (0, 0, 0), small), (9, (0, 0, 0), big)], names={4: "spot", 9: "organ"})
    np.testing.assert_array_equal(read_volume(path).label_map[:, :, 0], np.where(np.eye(4), 4, 9))
    assert read_geometry(path).shape == (4, 4, 1)


def test_a_tilted_gantry_maps_back(tmp_path: Path, write_seg: Write, write_slices: WriteSlices) -> None:
    """A landmark on a tilted slice ends up at its place in the world on the upright grid."""
    tilt = np.array([0, np.sin(np.radians(20)), np.cos(np.radians(20))])
    positions = [(FIRST + 3 * i * tilt).tolist() for i in range(12)]
    write_slices(
        tmp_path / "ct", np.zeros((12, 40, 30), dtype=np.int16), orientation=(1, 0, 0, 0, 1, 0),
        spacing=(0.8, 0.8, 3), ImagePositionPatient=positions,
    )  # fmt: skip
    image = find_series(tmp_path / "ct").sources[0]
    marks = {1: (1, 5, 6), 2: (6, 20, 25), 3: (10, 38, 2)}  # slice, row, column
    frames = []
    for number, (i, row, column) in marks.items():
        mark = np.zeros((40, 30), dtype=bool)
        mark[row, column] = True
        frames.append((number, tuple(positions[i]), mark))
    path = write_seg(tmp_path / "seg.dcm", frames, spacing=(0.8, 0.8), thickness=3, between=None)
    grid = read_geometry(image)
    for source in (image, None):  # with the true slices, and by the frames' own positions
        found = read_segmentation(path, grid, source)
        for segment in found.segments:
            i, row, column = marks[segment.number]
            world = np.add(positions[i], (0.8 * column, 0.8 * row, 0)) * (-1, -1, 1)
            voxels = np.argwhere(found.mask(segment))
            assert len(voxels) == 1
            # The grid's slices are those of the gantry; rows are moved by parts of a pixel.
            assert np.abs(grid.world(voxels[0]) - world).max() <= 0.4 + 1e-6
    with pytest.raises(GeometryError, match="tilted or uneven and make no grid; read it with --like IMAGE"):
        read_dicom_seg(path)


def test_uneven_slices_show_what_their_own_frames_hold(
    tmp_path: Path, write_seg: Write, write_slices: WriteSlices
) -> None:
    heights = [0.0, 2.0, 4.0, 6.0, 11.0, 13.0, 15.0]
    positions = [[0.0, 0.0, height] for height in heights]
    slices = np.zeros((7, 4, 5), dtype=np.int16)
    write_slices(tmp_path / "ct", slices, orientation=(1, 0, 0, 0, 1, 0), ImagePositionPatient=positions)
    image = find_series(tmp_path / "ct").sources[0]
    grid = read_geometry(image)
    full = np.ones((4, 5), dtype=bool)
    frames = [(1, tuple(positions[i]), full) for i in (1, 4, 5)]  # nothing on 4 and 6 mm
    path = write_seg(tmp_path / "seg.dcm", frames, between=None, thickness=2)
    found = read_segmentation(path, grid, image)
    shown = found.mask(found.segments[0]).all(axis=(0, 1))
    for z, is_shown in enumerate(shown):
        nearest = int(np.abs(np.array(heights) - grid.world((0, 0, z))[2]).argmin())
        assert is_shown == (nearest in (1, 4, 5))
    assert len(source_planes(image)) == 7


def test_a_finer_and_a_larger_grid(tmp_path: Path, write_seg: Write) -> None:
    frames = [(1, (10, 20, 30 + 3 * i), np.ones((2, 3), dtype=bool)) for i in range(2)]
    path = write_seg(tmp_path / "a.dcm", frames, spacing=(1, 1), between=3)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = (-9, -18, 25)
    found = read_dicom_seg(path, Geometry((6, 6, 14), affine))
    voxels = np.argwhere(found.mask(found.segments[0]))
    assert voxels.min(axis=0).tolist() == [1, 2, 4] and voxels.max(axis=0).tolist() == [3, 3, 9]
    assert len(voxels) == 3 * 2 * 6


def test_frames_that_match_no_slice(tmp_path: Path, write_seg: Write) -> None:
    path = write_seg(tmp_path / "a.dcm", [(1, (0, 0, 500), pixels())], names={1: "liver"})
    grid = Geometry((10, 10, 10), np.diag([-0.7, -0.5, 2.5, 1]))
    with pytest.raises(GeometryError, match=r"a.dcm: 'liver' lies up to 47\d.\d mm outside of the image"):
        read_dicom_seg(path, grid)
    between = write_seg(tmp_path / "b.dcm", [(1, (0, 0, 12.4), pixels())], thickness=0.5, between=0.5)
    with pytest.raises(GeometryError, match="lies between the slices of the image, on none"):
        read_dicom_seg(between, Geometry((10, 10, 10), np.diag([-0.7, -0.5, 5, 1])))


def test_damaged_files(tmp_path: Path, write_seg: Write) -> None:
    frames = [(1, (0, 0, 2.5 * i), pixels(60, 60)) for i in range(4)]
    whole = write_seg(tmp_path / "whole.dcm", frames).read_bytes()
    for n_bytes in (len(whole) - 700, len(whole) // 2, 200, 10, 0):
        (tmp_path / "cut.dcm").write_bytes(whole[:n_bytes])
        with pytest.raises(SourceError, match=r"cut.dcm: .*export it again|cut.dcm: describes no segments"):
            read_dicom_seg(tmp_path / "cut.dcm")


def change(path: Path, **tags: object) -> None:
    header = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(header, name, value)
    header.save_as(path)


def test_what_cannot_be_told_apart_or_placed(tmp_path: Path, write_seg: Write) -> None:
    twice = write_seg(tmp_path / "twice.dcm", [(1, (0, 0, 0), pixels()), (1, (0, 0, 0), pixels())])
    with pytest.raises(SourceError, match="several frames of 'organ 1' at one place"):
        read_dicom_seg(twice)
    unknown = write_seg(tmp_path / "unknown.dcm", [(1, (0, 0, 0), pixels()), (3, (0, 0, 0), pixels())], names={1: "a"})
    with pytest.raises(SourceError, match=r"frames of segments \[3\], which it does not describe"):
        read_dicom_seg(unknown)
    change(twice, PerFrameFunctionalGroupsSequence=pydicom.dcmread(twice).PerFrameFunctionalGroupsSequence[:1])
    with pytest.raises(SourceError, match="NumberOfFrames is 2, but 1 functional groups"):
        read_dicom_seg(twice)


def test_empty_and_nameless_segments(tmp_path: Path, write_seg: Write) -> None:
    path = write_seg(tmp_path / "a.dcm", [(2, (0, 0, 0), pixels())], names={1: "", 2: "organ", 3: "organ"})
    found = read_dicom_seg(path)
    assert [segment.name for segment in found.segments] == ["segment 1", "organ", "organ 2"]
    assert [bool(found.mask(segment).any()) for segment in found.segments] == [False, True, False]
