"""All formats alike: where masks lie, which are confirmed, and which are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import trimesh
from dicom_kinds import BALLS, EACH_KIND
from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array

from medseg.errors import ConfigError, LabelError, OutputError
from medseg.io.dicom_seg.writer import LABEL_MAP
from medseg.io.discover import source_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, NIFTI, PNG, REPORTS, TIFF, format_named, usual_format, write_mask
from medseg.io.read import read_geometry
from medseg.io.source import ImageSource
from medseg.labels import Labels

RAS = (-1, -1, 1)  # times LPS


def centre_of_voxels(path: Path, values: tuple[int, ...]) -> np.ndarray:
    """LPS mm."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    layers = array if array.ndim == 4 else array[..., None]  # of .seg.nrrd; a value is in one of them
    indices = np.argwhere(np.isin(layers, values).any(axis=-1))[:, ::-1]
    return np.mean([image.TransformIndexToPhysicalPoint([int(i) for i in index]) for index in indices], axis=0)


def centre_of_frames(path: Path, number: int) -> np.ndarray:
    """LPS mm of the pixels of one segment."""
    header = dcmread(path)
    shared = header.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    between = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, dtype=float)[::-1]
    points = []
    for group, pixels in zip(header.PerFrameFunctionalGroupsSequence, pixel_array(header), strict=True):
        is_shown = header.SegmentationType == "LABELMAP"  # pixels are numbers then
        shown = pixels == number if is_shown else pixels
        if is_shown or group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
            points.append(np.argwhere(shown)[:, ::-1] * between @ orientation + position)
    return np.concatenate(points).mean(axis=0)


def centre_of_contours(roi: Dataset) -> np.ndarray:
    """LPS mm of what the contours enclose, each weighted by its area."""
    centres, areas = [], []
    for contour in roi.ContourSequence:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        first = points[0]
        normals = np.cross(points - first, np.roll(points, -1, axis=0) - first)
        parts = normals @ normals.sum(axis=0) / np.linalg.norm(normals.sum(axis=0))
        centres.append((parts[:, None] * (points + np.roll(points, -1, axis=0) + first) / 3).sum(axis=0) / parts.sum())
        areas.append(parts.sum())
    return np.average(centres, axis=0, weights=areas)


def centre(name: str, path: Path, number: int) -> np.ndarray:
    """RAS mm of the first or the second structure, by other readers than ours."""
    structure = ("liver", "kidney_left")[number - 1]
    if name in ("nifti", "seg-nrrd"):
        found = centre_of_voxels(path, (number,))
    elif name == "nifti-per-label":
        found = centre_of_voxels(path / f"{structure}.nii.gz", (1,))
    elif name.startswith("dicom-seg"):
        found = centre_of_frames(path, number)
    elif name == "rtstruct":
        found = centre_of_contours(dcmread(path).ROIContourSequence[number - 1])
    else:
        found = trimesh.load_mesh(path / f"{structure}.{name}").center_mass
    return found * RAS


@pytest.mark.parametrize("kind", EACH_KIND)
def test_masks_in_every_format_lie_where_the_anatomy_lies(
    kind: str, segmented_balls: Callable[..., LabelMapVolume], tmp_path: Path
) -> None:
    mask = segmented_balls(tmp_path / "series", kind)
    for name, format_ in FORMATS.items():
        written = write_mask(format_, format_.path(tmp_path, "case"), mask)
        assert written.certificate.passed
        assert written.certificate.n_different == 0
        for number, (place, _) in enumerate(BALLS, start=1):
            np.testing.assert_allclose(centre(name, written.path, number), place, atol=0.4, err_msg=name)


def test_regions_are_written_beside_their_labels(balls: LabelMapVolume, tmp_path: Path) -> None:
    """In all formats but the label map, which has one value a voxel."""
    labels = Labels.from_names({"liver": 1}, {"both": (1, 2)}).described({"both": {"colour": (1, 2, 3)}})
    mask = replace(balls, labels=labels)
    for format_ in FORMATS.values():
        if format_.name == LABEL_MAP:  # it has one segment a pixel
            with pytest.raises(OutputError, match="regions overlap their labels.*choose dicom-seg"):
                write_mask(format_, format_.path(tmp_path, "case"), mask)
            continue
        assert write_mask(format_, format_.path(tmp_path, "case"), mask).certificate.n_different == 0
    seg = dcmread(tmp_path / "case.seg.dcm")
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["liver", "both"]
    structures = dcmread(tmp_path / "case.rtstruct.dcm")
    assert [item.ROIName for item in structures.StructureSetROISequence] == ["liver", "both"]
    assert list(structures.ROIContourSequence[1].ROIDisplayColor) == [1, 2, 3]
    assert sitk.ReadImage(str(tmp_path / "case.seg.nrrd")).GetNumberOfComponentsPerPixel() == 2
    for folder, suffix in (("case", ".nii.gz"), ("case_stl", ".stl"), ("case_obj", ".obj")):
        names = [f"both{suffix}", f"liver{suffix}"]
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
    both = nibabel.load(tmp_path / "case" / "both.nii.gz")
    assert np.array_equal(np.asarray(both.dataobj), balls.label_map > 0)


@pytest.mark.parametrize("name", FORMATS)
def test_a_mask_of_nothing_is_a_mask_too(name: str, balls: LabelMapVolume, tmp_path: Path) -> None:
    empty = replace(balls, label_map=np.zeros_like(balls.label_map))
    written = write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), empty)
    assert written.certificate.n_different == 0
    assert len(written.files) == {"nifti-per-label": 2, "stl": 0, "obj": 0}.get(name, 1)


@pytest.mark.parametrize("name", FORMATS)
def test_without_a_structure_there_is_a_label_map_at_most(name: str, balls: LabelMapVolume, tmp_path: Path) -> None:
    mask = replace(balls, label_map=np.zeros_like(balls.label_map), labels=Labels(items=()))
    if name in ("nifti", "seg-nrrd"):
        assert write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), mask).certificate.passed
        return
    with pytest.raises(OutputError, match="there is no"):
        write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), mask)


@pytest.mark.parametrize("name", ["dicom-seg", "dicom-seg-grid", "rtstruct"])
def test_masks_in_dicom_need_a_dicom_series(name: str, balls: LabelMapVolume, tmp_path: Path) -> None:
    nifti = ImageSource("nifti", Path("image.nii.gz"), (Path("image.nii.gz"),))
    for source, reason in ((None, "no image is given"), (nifti, "image.nii.gz is none; choose nifti or seg-nrrd")):
        with pytest.raises(OutputError, match=reason):
            write_mask(FORMATS[name], tmp_path / "case.dcm", replace(balls, source=source))
    assert not list(tmp_path.glob("*.dcm"))


@pytest.mark.parametrize("name", ["dicom-seg", "rtstruct"])
def test_values_that_are_no_label_are_refused(name: str, balls: LabelMapVolume, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"\[2\] are not among"):
        write_mask(FORMATS[name], tmp_path / "case.dcm", replace(balls, labels=Labels.from_names({"liver": 1})))


@pytest.mark.parametrize("name", ["nifti", "nifti-per-label", "seg-nrrd", "stl", "obj"])
def test_a_sheared_grid_stays_sheared(name: str, tmp_path: Path) -> None:
    """As some converters write CT of a tilted gantry. SimpleITK reads no such NIfTI, so its bytes are compared."""
    affine = np.diag([0.9, 1.2, 2.5, 1.0])
    affine[1, 2] = 0.9
    label_map = np.zeros((14, 16, 9), np.uint8)
    label_map[4:10, 3:12, 2:7], label_map[6:8, 5:9, 4:6] = 1, 2
    nibabel.save(nibabel.Nifti1Image(np.zeros_like(label_map), affine), tmp_path / "image.nii.gz")
    source = source_of(tmp_path / "image.nii.gz")
    labels = Labels.from_names({"liver": 1, "kidney_left": 2})
    mask = LabelMapVolume(label_map, read_geometry(source), labels, source)
    assert mask.geometry.shear > 0.1
    written = write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), mask)
    assert written.certificate.n_different == 0
    if not name.startswith("nifti"):
        place = mask.geometry.world(np.argwhere(label_map == 2)).mean(axis=0)
        np.testing.assert_allclose(centre(name, written.path, 2), place, atol=0.05)


def test_formats_are_known_by_name() -> None:
    names = ["nifti", "nifti-per-label", "seg-nrrd", "dicom-seg", LABEL_MAP, "dicom-seg-grid", "rtstruct", "stl", "obj"]
    assert list(FORMATS) == names
    assert not FORMATS.keys() & REPORTS.keys()
    assert [format_named(name).name for name in (*names, *REPORTS)] == [*names, *REPORTS]
    with pytest.raises(ConfigError, match="did you mean 'dicom-seg'"):
        format_named("dicomseg")


def test_pictures_become_pictures() -> None:
    def of(kind: str, name: str) -> ImageSource:
        return ImageSource(kind, Path(name), (Path(name),))  # type: ignore[arg-type]

    assert usual_format(of("image2d", "a.jpg")) is PNG
    assert usual_format(of("image2d", "a.TIF")) is TIFF
    assert usual_format(of("nifti", "a.nii")) is NIFTI
    assert usual_format(of("dicom", "a")) is NIFTI
