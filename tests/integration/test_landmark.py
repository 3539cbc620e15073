"""Two balls at known places in the world: DICOM of every kind in, masks of every format out, read by others.

Whatever the scanner did (tilt, decubitus, missing slices, compression), the balls have to be where they were.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import trimesh
from dicom_kinds import BALLS, BETWEEN_COLUMNS, BETWEEN_ROWS, EACH_KIND, KINDS, balls_in, write_kind

from medseg.io.dicom.series import find_series
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, write_mask
from medseg.io.read import read_volume
from medseg.labels import Labels

Centres = dict[str, np.ndarray]  # RAS mm of each structure

LABELS = Labels.from_names({"liver": 1, "kidney_left": 2})
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(scope="module", params=EACH_KIND)
def segmented(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LabelMapVolume:
    folder = write_kind(tmp_path_factory.mktemp("series"), KINDS[request.param])
    (source,) = find_series(folder).sources
    volume = read_volume(source)
    return LabelMapVolume(balls_in(volume.array[0]), volume.geometry, LABELS, source)


@pytest.mark.parametrize("name", FORMATS)
def test_a_landmark_stays_where_it_is(segmented: LabelMapVolume, tmp_path: Path, name: str) -> None:
    written = write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), segmented)
    tolerance_mm = 0.5 * min(BETWEEN_ROWS, BETWEEN_COLUMNS, segmented.geometry.spacing[2])
    for read in READERS[name]:
        centres = read(written.path, segmented)
        assert list(centres) == LABELS.names
        for centre, (expected, _) in zip(centres.values(), BALLS, strict=True):
            assert np.linalg.norm(centre - expected) < tolerance_mm


def by_nibabel(path: Path, segmented: LabelMapVolume) -> Centres:
    image = nibabel.load(path)
    label_map = np.asarray(image.dataobj)
    return {
        name: nibabel.affines.apply_affine(image.affine, np.argwhere(label_map == value)).mean(axis=0)
        for name, value in zip(LABELS.names, LABELS.values, strict=True)
    }


def by_simpleitk(path: Path, segmented: LabelMapVolume) -> Centres:
    return {name: _centre_by_simpleitk(path, value) for name, value in zip(LABELS.names, LABELS.values, strict=True)}


def masks_by_simpleitk(path: Path, segmented: LabelMapVolume) -> Centres:
    return {name: _centre_by_simpleitk(path / f"{name}.nii.gz", 1) for name in LABELS.names}


def _centre_by_simpleitk(path: Path, value: int) -> np.ndarray:
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(sitk.ReadImage(str(path)))
    return np.array(statistics.GetCentroid(value)) * LPS_TO_RAS


def frames_by_pydicom(path: Path, segmented: LabelMapVolume) -> Centres:
    """The places of all pixels, from the positions of the frames."""
    header = pydicom.dcmread(path)
    shared = header.SharedFunctionalGroupsSequence[0]
    axes = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
    names = {item.SegmentNumber: item.SegmentLabel for item in header.SegmentSequence}
    parts: dict[str, list[tuple[np.ndarray, float]]] = defaultdict(list)
    for groups, pixels in zip(header.PerFrameFunctionalGroupsSequence, header.pixel_array, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        if header.SegmentationType == "LABELMAP":
            masks = {number: pixels == number for number in names}
        else:
            masks = {groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber: pixels != 0}
        for number, mask in masks.items():
            if mask.any():
                row, column = np.argwhere(mask).mean(axis=0)
                centre = position + column * between_columns * axes[0] + row * between_rows * axes[1]
                parts[names[number]].append((centre, float(mask.sum())))
    return {name: _centre_of_slices(parts[name], segmented) for name in LABELS.names}


def contours_by_pydicom(path: Path, segmented: LabelMapVolume) -> Centres:
    """The areas that the contours enclose."""
    header = pydicom.dcmread(path)
    names = {item.ROINumber: item.ROIName for item in header.StructureSetROISequence}
    return {
        names[item.ReferencedROINumber]: _centre_of_slices(
            [_centre_and_area(np.reshape(c.ContourData, (-1, 3)).astype(float)) for c in item.ContourSequence],
            segmented,
        )
        for item in header.ROIContourSequence
    }


def _centre_and_area(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Of a plane polygon, by triangles from its first point."""
    edges = points[1:] - points[0]
    normals = np.cross(edges[:-1], edges[1:]) / 2
    whole = normals.sum(axis=0)
    area = float(np.linalg.norm(whole))
    centres = points[0] + (edges[:-1] + edges[1:]) / 3
    return (normals @ (whole / area)) @ centres / area, area


def _centre_of_slices(parts: list[tuple[np.ndarray, float]], segmented: LabelMapVolume) -> np.ndarray:
    """RAS mm, from centre (LPS mm) and area on each slice. A slice stands for half of the way to the next ones."""
    planes = list(_positions(segmented))
    normal = np.cross(*np.reshape(planes[0][1], (2, 3)).astype(float))
    heights = np.sort([np.array(position, dtype=float) @ normal for position, _ in planes])
    thickness = np.gradient(heights)
    weights = [area * thickness[np.abs(heights - centre @ normal).argmin()] for centre, area in parts]
    centre: np.ndarray = np.average([centre for centre, _ in parts], axis=0, weights=weights)
    return centre * LPS_TO_RAS


def _positions(segmented: LabelMapVolume) -> Iterator[tuple[list[float], list[float]]]:
    """Position and orientation of all slices of the source."""
    for header in map(pydicom.dcmread, set(segmented.source.files)):
        if "PerFrameFunctionalGroupsSequence" not in header:
            yield header.ImagePositionPatient, header.ImageOrientationPatient
            continue
        orientation = header.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
        for groups in header.PerFrameFunctionalGroupsSequence:
            yield groups.PlanePositionSequence[0].ImagePositionPatient, orientation


def stl_by_trimesh(path: Path, segmented: LabelMapVolume) -> Centres:
    return {name: trimesh.load_mesh(path / f"{name}.stl").center_mass * LPS_TO_RAS for name in LABELS.names}


def obj_by_trimesh(path: Path, segmented: LabelMapVolume) -> Centres:
    return {name: trimesh.load_mesh(path / f"{name}.obj").center_mass * LPS_TO_RAS for name in LABELS.names}


READERS: dict[str, tuple[Callable[[Path, LabelMapVolume], Centres], ...]] = {
    "nifti": (by_nibabel, by_simpleitk),
    "nifti-per-label": (masks_by_simpleitk,),
    "seg-nrrd": (by_simpleitk,),
    "dicom-seg": (frames_by_pydicom,),
    "dicom-seg-labelmap": (frames_by_pydicom,),
    "dicom-seg-grid": (frames_by_pydicom,),
    "rtstruct": (contours_by_pydicom,),
    "stl": (stl_by_trimesh,),
    "obj": (obj_by_trimesh,),
}
