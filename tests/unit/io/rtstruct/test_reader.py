from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from medseg.errors import GeometryError, SourceError
from medseg.io.dicom.series import find_series, read_dicom
from medseg.io.read import read_geometry, read_segmentation, read_volume
from medseg.io.rtstruct.reader import read_rtstruct, rtstruct_headers
from medseg.terminology import Code
from medseg.volume import Array, Geometry

Write = Callable[..., Path]
WriteSlices = Callable[..., list[Path]]

# Voxels of 1 × 1 × 3 mm, in LPS as DICOM's are; world (x, y, z) in LPS mm is voxel (x, y, z / 3).
GRID = Geometry((20, 16, 10), np.diag([-1.0, -1.0, 3.0, 1.0]))


def square(low: float, high: float, z: float) -> np.ndarray:
    """Corners in LPS mm."""
    return np.array([(low, low, z), (low, high, z), (high, high, z), (high, low, z)])


def the_mask(path: Path, grid: Geometry = GRID) -> tuple[Array, tuple[str, ...]]:
    found = read_rtstruct(path, grid)
    assert len(found.segments) == 1
    return found.mask(found.segments[0]), found.notes


def expected(boxes: list[tuple[slice, slice, slice]], shape: tuple[int, ...] = GRID.shape) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        mask[box] ^= True
    return mask


@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
@pytest.mark.parametrize("patient", ["STS_001", "STS_002", "STS_003"])
def test_real_contours_equal_their_masks(real_data: Path, patient: str, modality: str) -> None:
    folder = real_data / "sarcoma" / "dicom" / patient / modality
    found = find_series(folder)
    (image,) = found.sources
    volume = read_dicom(image)
    reference = nibabel.load(real_data / "sarcoma" / "nifti" / patient / f"{modality}_mask.nii.gz")
    labelled = np.argwhere(np.asarray(reference.dataobj) > 0)
    index = volume.geometry.index(nibabel.affines.apply_affine(reference.affine, labelled))
    assert np.abs(index - np.rint(index)).max() < 0.02
    mask = np.zeros(volume.geometry.shape, dtype=bool)
    mask[tuple(np.rint(index).astype(int).T)] = True
    (contours,) = found.segmentations
    for by in (None, image):  # by the grid alone, and by the slices
        read = read_segmentation(contours, volume.geometry, by)
        np.testing.assert_array_equal(read.mask(read.segments[0]), mask)
        assert not read.notes
    assert (read.segments[0].name, read.segments[0].colour) == (f"GTV_Mass_{modality}", (255, 0, 0))


def test_holes_islands_keyholes_and_several_contours_a_slice(tmp_path: Path, write_rtstruct: Write) -> None:
    outer, inner = square(1.5, 12.5, 6), square(3.5, 9.5, 6)
    keyhole = np.add(np.concatenate([outer, outer[:1], inner, inner[:1]]), (0, 0, 3))
    path = write_rtstruct(tmp_path / "a.dcm", {"ring": [outer, inner, square(5.5, 7.5, 6), keyhole]})
    mask, notes = the_mask(path)
    low, high = slice(2, 13), slice(4, 10)
    rings = [(low, low, slice(2, 4)), (high, high, slice(2, 4)), (slice(6, 8), slice(6, 8), slice(2, 3))]
    np.testing.assert_array_equal(mask, expected(rings))
    assert not notes


def test_overlapping_rois_lie_in_layers(tmp_path: Path, write_rtstruct: Write) -> None:
    rois = {"PTV": [square(1.5, 9.5, 3)], "GTV": [square(3.5, 6.5, 3)], "cord": [square(10.5, 12.5, 3)]}
    found = read_rtstruct(write_rtstruct(tmp_path / "a.dcm", rois), GRID)
    assert [(segment.name, segment.number, segment.layer) for segment in found.segments] == [
        ("PTV", 1, 0), ("GTV", 2, 1), ("cord", 3, 0),
    ]  # fmt: skip
    label_map = found.label_map({"PTV": 1, "GTV": 5})
    assert [int((label_map == value).sum()) for value in (1, 5)] == [8 * 8 - 3 * 3, 3 * 3]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_contours_across_any_axis_of_a_turned_grid(tmp_path: Path, write_rtstruct: Write, axis: int) -> None:
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (0.6, 0.8, 0), (0, 0, -1.2), (-1.2, 0.9, 0)
    affine[:3, 3] = (30, -20, 10)
    grid = Geometry((12, 13, 14), affine)
    contours = []
    for height in (4, 5):
        corners = np.insert(np.array([(2.5, 3.5), (2.5, 9.5), (7.5, 9.5), (7.5, 3.5)]), axis, height, axis=1)
        contours.append(grid.world(corners) * [-1, -1, 1])
    mask, notes = the_mask(write_rtstruct(tmp_path / "a.dcm", {"box": contours}), grid)
    box = [slice(3, 8), slice(4, 10)]
    box.insert(axis, slice(4, 6))
    np.testing.assert_array_equal(mask, expected([(box[0], box[1], box[2])], grid.shape))
    assert not notes


def test_slices_finer_than_the_contours(tmp_path: Path, write_rtstruct: Write) -> None:
    contours = [square(1.5, 4.5, z) for z in (9, 12, 15)] + [square(1.5, 4.5, 24)]
    fine = Geometry((20, 16, 30), np.diag([-1.0, -1.0, 1.0, 1.0]))
    mask, notes = the_mask(write_rtstruct(tmp_path / "a.dcm", {"box": contours}), fine)
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [*range(8, 17), 23, 24, 25]
    assert mask.sum() == 9 * 12
    assert notes == (
        "'box': contours 3.00 mm apart, slices 1.00 mm: each slice shows the nearest within 1.50 mm",
        "'box': 6 slices between others have no contours, and are left empty",
    )


def test_slices_coarser_than_the_contours(tmp_path: Path, write_rtstruct: Write) -> None:
    contours = [square(1.5, 4.5 + z % 2, z) for z in range(5, 14)]  # wider at odd heights
    mask, _ = the_mask(write_rtstruct(tmp_path / "a.dcm", {"box": contours}))
    assert mask.sum(axis=(0, 1)).tolist() == [0, 0, 9, 16, 9, 0, 0, 0, 0, 0]


def test_contours_beside_the_slices(tmp_path: Path, write_rtstruct: Write) -> None:
    contours = [square(1.5, 4.5, z + 1.2) for z in (6, 9, 12)]
    mask, notes = the_mask(write_rtstruct(tmp_path / "a.dcm", {"box": contours}))
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [2, 3, 4]
    assert notes == (
        "'box': contours lie up to 1.20 mm beside the slices: each slice shows the nearest within 1.50 mm",
    )


def test_contours_of_one_slice_whose_positions_are_rounded(tmp_path: Path, write_rtstruct: Write) -> None:
    contours = [square(1.5, 4.5, 6.01), square(6.5, 9.5, 5.98), square(1.5, 4.5, 9.0)]
    mask, notes = the_mask(write_rtstruct(tmp_path / "a.dcm", {"box": contours}))
    assert mask.sum(axis=(0, 1)).tolist() == [0, 0, 18, 9, 0, 0, 0, 0, 0, 0]
    assert not notes


def test_lesions_far_apart_stay_thin(tmp_path: Path, write_rtstruct: Write) -> None:
    mask, notes = the_mask(write_rtstruct(tmp_path / "a.dcm", {"a": [square(1.5, 4.5, 3), square(1.5, 4.5, 24)]}))
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [1, 8]
    assert notes == ("'a': 6 slices between others have no contours, and are left empty",)


def test_uneven_slices_show_their_own_contours(
    tmp_path: Path, write_rtstruct: Write, write_slices: WriteSlices
) -> None:
    heights = [0.0, 2.0, 4.0, 6.0, 11.0, 13.0, 15.0]
    positions = [[0.0, 0.0, height] for height in heights]
    write_slices(
        tmp_path / "ct", np.zeros((7, 8, 9), dtype=np.int16), orientation=(1, 0, 0, 0, 1, 0), spacing=(1, 1, 1),
        ImagePositionPatient=positions,
    )  # fmt: skip
    image = find_series(tmp_path / "ct").sources[0]
    grid = read_geometry(image)
    contours = [square(1.5, 4.5, heights[i]) for i in (1, 2, 4, 6)]
    found = read_segmentation(write_rtstruct(tmp_path / "rs.dcm", {"box": contours}), grid, image)
    shown = found.mask(found.segments[0]).any(axis=(0, 1))
    for z, is_shown in enumerate(shown):
        nearest = int(np.abs(np.array(heights) - grid.world((0, 0, z))[2]).argmin())
        assert is_shown == (nearest in (1, 2, 4, 6))


def test_points_and_open_lines_are_left_out(tmp_path: Path, write_rtstruct: Write) -> None:
    kinds = ("CLOSED_PLANAR", "POINT", "OPEN_PLANAR", "CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
    contours = [square(1.5, 9.5, 6), [[2, 2, 6]], square(1, 3, 9), [[1, 1, 6], [2, 2, 6]], square(3.5, 6.5, 6)]
    mask, notes = the_mask(write_rtstruct(tmp_path / "a.dcm", {"ring": contours}, kinds=kinds))
    assert mask.sum() == 8 * 8 - 3 * 3
    assert notes == (
        "'ring': 1 POINT left out, enclosing nothing",
        "'ring': 1 OPEN_PLANAR left out, enclosing nothing",
        "'ring': 1 CLOSED_PLANAR of 2 points left out, enclosing nothing",
    )


def test_a_contour_twice_does_not_cancel_itself(tmp_path: Path, write_rtstruct: Write) -> None:
    mask, notes = the_mask(write_rtstruct(tmp_path / "a.dcm", {"ring": [square(1.5, 9.5, 6), square(1.5, 9.5, 6)]}))
    assert mask.sum() == 8 * 8
    assert notes == ("'ring': 1 contour left out, repeating another one",)


def test_rois_without_contours_are_empty(tmp_path: Path, write_rtstruct: Write) -> None:
    rois = {"organ": [square(1.5, 4.5, 3)], "nothing": [], "iso": [], "": []}
    found = read_rtstruct(write_rtstruct(tmp_path / "a.dcm", rois, first_number=0), GRID)
    assert [(segment.name, segment.number) for segment in found.segments] == [
        ("organ", 1), ("nothing", 2), ("iso", 3), ("ROI 4", 4),
    ]  # fmt: skip
    assert [int(found.mask(segment).sum()) for segment in found.segments] == [9, 0, 0, 0]
    assert found.notes == ("'nothing', 'iso', 'ROI 4': no closed contours, so it is empty",)
    nothing = read_rtstruct(write_rtstruct(tmp_path / "b.dcm", {"iso": []}), GRID)
    assert not nothing.layers[0].any()


def test_contours_of_an_roi_that_is_not_named_are_told(tmp_path: Path, write_rtstruct: Write) -> None:
    path = write_rtstruct(tmp_path / "a.dcm", {"organ": [square(1.5, 4.5, 3)], "lost": [square(1.5, 9.5, 3)]})
    with dcmread(path) as header:
        header.StructureSetROISequence = header.StructureSetROISequence[:1]
        header.save_as(path)
    mask, notes = the_mask(path)
    assert mask.sum() == 9
    assert notes == ("contours of ROI 2 left out: no ROI has that number",)


@pytest.mark.parametrize("sequence", ["StructureSetROISequence", "ROIContourSequence"])
def test_two_rois_of_one_number_are_refused(tmp_path: Path, write_rtstruct: Write, sequence: str) -> None:
    path = write_rtstruct(tmp_path / "a.dcm", {"organ": [square(1.5, 4.5, 3)], "other": [square(1.5, 9.5, 3)]})
    with dcmread(path) as header:
        second = header[sequence].value[1]
        second["ROINumber" if "ROINumber" in second else "ReferencedROINumber"].value = 1
        header.save_as(path)
    with pytest.raises(SourceError, match=f"{sequence} has two items of ROI 1"):
        read_rtstruct(path, GRID)


def test_numbers_beyond_those_of_dicom_are_counted_anew(tmp_path: Path, write_rtstruct: Write) -> None:
    path = write_rtstruct(tmp_path / "a.dcm", {"organ": [square(1.5, 4.5, 3)]})
    with dcmread(path) as header:
        for item in (header.StructureSetROISequence[0], header.ROIContourSequence[0]):
            tag = item["ROINumber" if "ROINumber" in item else "ReferencedROINumber"].tag
            item._dict[tag] = RawDataElement(tag, "IS", 20, b"9223372036854775808 ", 0, False, True)
        header.save_as(path)
    (roi,) = rtstruct_headers(path)
    assert roi.number == 1
    assert the_mask(path)[0].sum() == 9


def test_contours_outside_of_the_image(tmp_path: Path, write_rtstruct: Write) -> None:
    far = square(1.5, 4.5, 300)
    beside = square(100, 104, 6)
    with pytest.raises(GeometryError, match="a.dcm: all contours lie outside of the image; were they drawn on this"):
        read_rtstruct(write_rtstruct(tmp_path / "a.dcm", {"far": [far], "beside": [beside]}), GRID)
    rois = {"far": [far], "couch": [square(-9.5, 4.5, 3)], "organ": [square(1.5, 4.5, 3)]}
    found = read_rtstruct(write_rtstruct(tmp_path / "a.dcm", rois), GRID)
    assert [int(found.mask(segment).sum()) for segment in found.segments] == [0, 25, 9]
    assert found.notes == ("'far', 'couch': 1 of 1 contours reach out of the image; cut off there",)


def test_what_is_smaller_than_a_voxel_is_told(tmp_path: Path, write_rtstruct: Write) -> None:
    mask, notes = the_mask(write_rtstruct(tmp_path / "a.dcm", {"spot": [square(1.2, 1.8, 3)]}))
    assert not mask.any()
    assert notes == ("'spot': too small for this grid: no centre of a voxel lies inside",)


def test_oblique_contours_are_refused(tmp_path: Path, write_rtstruct: Write) -> None:
    tilted = square(1.5, 12.5, 6) + np.outer([0, 0, 6, 6], [0, 0, 1])
    path = write_rtstruct(tmp_path / "a.dcm", {"organ": [tilted @ np.array([[1, 0, 0.5], [0, 1, 0.3], [0, 0, 1]])]})
    with pytest.raises(GeometryError, match="contours of 'organ' are oblique to the image; read it with the series"):
        read_rtstruct(path, GRID)


def test_names_colours_and_codes(tmp_path: Path, write_rtstruct: Write) -> None:
    left = Dataset()
    left.CodeValue, left.CodingSchemeDesignator, left.CodeMeaning = "7771000", "SCT", "Left"
    kidney = Dataset()
    kidney.CodeValue, kidney.CodingSchemeDesignator, kidney.CodeMeaning = "64033007", "SCT", "Kidney"
    kidney.SegmentedPropertyTypeModifierCodeSequence = [left]
    rois = {"Niere links": [square(1.5, 4.5, 3)]}
    path = write_rtstruct(tmp_path / "a.dcm", rois, RTROIIdentificationCodeSequence=[kidney])
    (header,) = rtstruct_headers(path)
    assert (header.name, header.number, header.colour) == ("Niere links", 1, (10, 20, 30))
    assert header.type == Code(scheme="SCT", value="64033007", meaning="Kidney")
    assert header.modifier == Code(scheme="SCT", value="7771000", meaning="Left")
    assert header.category is None


def test_contours_need_an_image(tmp_path: Path, write_rtstruct: Write) -> None:
    path = write_rtstruct(tmp_path / "a.dcm", {"organ": [square(1.5, 4.5, 3)]})
    for read in (read_volume, read_geometry, read_segmentation):
        with pytest.raises(SourceError, match="contours have no grid of their own; read it with its image"):
            read(path)


def test_damaged_files(tmp_path: Path, write_rtstruct: Write) -> None:
    path = write_rtstruct(tmp_path / "whole.dcm", {"organ": [square(1.5, 4.5, 3 * z) for z in range(9)]})
    whole = path.read_bytes()
    for n_bytes in (len(whole) - 150, len(whole) // 3, 10, 0):
        (tmp_path / "cut.dcm").write_bytes(whole[:n_bytes])
        with pytest.raises(SourceError, match="cut.dcm: "):
            read_rtstruct(tmp_path / "cut.dcm", GRID)
    (tmp_path / "odd.dcm").write_bytes(
        whole.replace(b"1.50000000\\1.50000000\\0.00000000", b"1.50000000\\1.50000000\\abcdefghij")
    )
    with pytest.raises(SourceError, match=r"odd.dcm: a contour's points cannot be read \(could not convert"):
        read_rtstruct(tmp_path / "odd.dcm", GRID)
