"""DICOM studies: which series is a case, and what was drawn on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.dataset.cases import CaseList
from medseg.dataset.layouts import find_cases
from medseg.dataset.reading import read_images, read_label_map
from medseg.errors import GeometryError

WriteSlices = Callable[..., list[Path]]
WriteRtstruct = Callable[..., Path]

AXIAL = (1, 0, 0, 0, 1, 0)
SPACING = (2.0, 2.0, 3.0)  # of columns, rows, slices, as ``write_slices`` takes it
CORNER = np.array((-20.0, 13.0, 7.0))  # where its first voxel lies, in LPS
FRAME = "1.2.3.4"  # which ``write_rtstruct`` refers to
WITH_LABELS = "DICOM studies with segmentations"


@pytest.fixture
def write_series(tmp_path: Path, write_slices: WriteSlices) -> Callable[..., Path]:
    """Writes an axial series of 4 slices into ``tmp_path / name``; all are of one study and frame of reference."""

    def write(name: str, uid: str, **tags: object) -> Path:
        stored = np.random.default_rng(len(name)).integers(0, 900, (4, 12, 10), dtype=np.int16)
        tags = {"FrameOfReferenceUID": FRAME, "SeriesDescription": Path(name).name, **tags}
        folder = tmp_path / name
        write_slices(folder, stored, orientation=AXIAL, spacing=SPACING, uids=("P1", "1.2", uid), **tags)
        return folder

    return write


def square(slice_number: float, low: float = 1.5, high: float = 6.5) -> np.ndarray:
    """Corners in LPS mm of a square between the pixels ``low`` and ``high`` in columns and rows."""
    index = [(low, low), (high, low), (high, high), (low, high)]
    return np.array([CORNER + np.array((x, y, slice_number)) * SPACING for x, y in index])


def drawn(found: CaseList) -> dict[str, list[str]]:
    """Segmentations of each case by its id."""
    return {case.case_id: [s.path.name for s in case.label.sources] for case in found.cases if case.label}


def test_contours_belong_to_the_series_that_they_refer_to(
    tmp_path: Path, write_series: Callable[..., Path], write_rtstruct: WriteRtstruct
) -> None:
    write_series("T1", "1.3.1")
    write_series("T2", "1.3.2")
    write_rtstruct(tmp_path / "plan.dcm", {"liver": [square(1)]}, referenced_series="1.3.2")
    found = find_cases(tmp_path)
    assert found.layout == WITH_LABELS and not found.problems
    assert drawn(found) == {"T2": ["plan.dcm"]}
    assert "without label maps, left out: 1 scan" in found.notes
    assert found.labels is not None and found.labels.names == ["liver"]


def test_a_lost_reference_is_replaced_by_geometry(
    tmp_path: Path, write_series: Callable[..., Path], write_rtstruct: WriteRtstruct
) -> None:
    write_series("T1", "1.3.1")
    write_series("elsewhere", "1.3.2", FrameOfReferenceUID="9.9")
    write_rtstruct(tmp_path / "plan.dcm", {"liver": [square(1)]}, referenced_series="7.7")
    found = find_cases(tmp_path)
    assert drawn(found) == {"T1": ["plan.dcm"]}
    assert any(note.endswith("the series that it refers to is not here; by its geometry it is of T1")
               for note in found.notes)  # fmt: skip


def test_contours_that_fit_several_series_or_none_are_problems(
    tmp_path: Path, write_series: Callable[..., Path], write_rtstruct: WriteRtstruct
) -> None:
    write_series("T1", "1.3.1")
    write_series("T2", "1.3.2")
    write_rtstruct(tmp_path / "fits.dcm", {"liver": [square(1)]}, referenced_series="7.7")
    write_rtstruct(tmp_path / "known.dcm", {"liver": [square(1)]}, referenced_series="1.3.1")
    write_rtstruct(tmp_path / "between.dcm", {"liver": [square(1.5)]}, referenced_series="7.7")
    found = find_cases(tmp_path)
    assert drawn(found) == {"T1": ["known.dcm"]}
    messages = {problem.path.name: problem.message for problem in found.problems}
    assert "may have been drawn on any of T1, T2; pair it" in messages["fits.dcm"]
    assert "was drawn on no image series that is here" in messages["between.dcm"]


def test_derived_images_are_left_out_beside_others(tmp_path: Path, write_series: Callable[..., Path]) -> None:
    write_series("DWI", "1.3.1")
    write_series("ADC", "1.3.2", ImageType=["DERIVED", "PRIMARY", "ADC"])
    write_series("ADC2", "1.3.3", ImageType=["DERIVED", "PRIMARY", "ADC"])
    write_series("MIP", "1.3.4", ImageType=["DERIVED", "PRIMARY", "MIP"])
    found = find_cases(tmp_path)
    assert [case.case_id for case in found.cases] == ["DWI"]
    assert found.notes == (
        "left out, computed from other images: an ADC map in ADC and 1 more; take it with --images 'ADC'",
        "left out, computed from other images: a projection in MIP; take it with --images 'MIP'",
    )
    chosen = find_cases(tmp_path, images="ADC*")
    assert [case.case_id for case in chosen.cases] == ["ADC", "ADC2"]
    channels = find_cases(tmp_path, images=["DWI=DWI", "ADC=ADC"])
    assert [[s.path.name for s in case.images] for case in channels.cases] == [["DWI", "ADC"]]


def test_derived_images_are_taken_where_nothing_else_is_or_they_were_named_or_drawn_on(
    tmp_path: Path, write_series: Callable[..., Path], write_rtstruct: WriteRtstruct
) -> None:
    adc = write_series("ADC", "1.3.2", ImageType=["DERIVED", "PRIMARY", "ADC"])
    assert [case.case_id for case in find_cases(tmp_path).cases] == ["ADC"]
    write_series("DWI", "1.3.1")
    assert [case.case_id for case in find_cases(adc).cases] == ["ADC"]
    (tmp_path / "cases.csv").write_text("case_id,image\na,DWI\nb,ADC\n")
    assert [case.case_id for case in find_cases(tmp_path).cases] == ["a", "b"]
    (tmp_path / "cases.csv").unlink()
    plan = write_rtstruct(tmp_path / "plan.dcm", {"lesion": [square(1)]}, referenced_series="1.3.2")
    assert drawn(find_cases(tmp_path)) == {"ADC": ["plan.dcm"]}
    # Without a reference the image that was acquired is what was drawn on.
    write_rtstruct(plan, {"lesion": [square(1)]}, referenced_series="7.7")
    assert drawn(find_cases(tmp_path)) == {"DWI": ["plan.dcm"]}


def test_two_structure_sets_of_one_series_are_one_label_map(
    tmp_path: Path, write_series: Callable[..., Path], write_rtstruct: WriteRtstruct
) -> None:
    write_series("CT", "1.3.1")
    write_rtstruct(tmp_path / "a.dcm", {"liver": [square(1)]}, referenced_series="1.3.1")
    write_rtstruct(tmp_path / "b.dcm", {"tumour": [square(1, 2.5, 4.5)]}, referenced_series="1.3.1")
    found = find_cases(tmp_path)
    (case,) = found.cases
    assert found.labels is not None and found.labels.names == ["liver", "tumour"]
    label_map = read_label_map(case, read_images(case, 0.05).geometry, 0.05).array
    voxels = {
        name: int((label_map == v).sum()) for name, v in zip(found.labels.names, found.labels.values, strict=True)
    }
    assert voxels == {"liver": 25 - 4, "tumour": 4}
    write_rtstruct(tmp_path / "c.dcm", {"Liver": [square(2)]}, referenced_series="1.3.1")
    (problem,) = find_cases(tmp_path).problems
    assert "outlines 'Liver', as " in problem.message and "--rename 'Liver='" in problem.message


@pytest.fixture
def two_modalities(write_series: Callable[..., Path], write_slices: WriteSlices, tmp_path: Path) -> Callable[..., Path]:
    """CT and PET of a patient in one folder, the PET with half as many pixels on an edge, over the same place."""

    def write(frame: str) -> Path:
        write_series("P1", "1.3.1", SeriesDescription="CT 3mm B30", names=[f"ct{i}" for i in range(4)])
        write_slices(
            tmp_path / "P1", _halves(), orientation=AXIAL, spacing=(4.0, 4.0, 3.0), uids=("P1", "1.2", "1.3.5"),
            names=[f"pet{i}" for i in range(4)], SeriesDescription="PET wb", Modality="PT", FrameOfReferenceUID=frame,
            ImagePositionPatient=[[-19.0, 14.0, 7.0 + 3 * i] for i in range(4)],
        )  # fmt: skip
        return tmp_path

    return write


def _halves() -> np.ndarray:
    return np.broadcast_to(np.arange(30, dtype=np.int16).reshape(6, 5) * 10, (4, 6, 5)).copy()


GLOBS = ("CT=*/CT*", "PET=*/PET*")


def test_channels_of_one_study_and_frame_are_brought_to_the_grid_of_the_first(
    two_modalities: Callable[..., Path], write_rtstruct: WriteRtstruct, tmp_path: Path
) -> None:
    source = two_modalities(FRAME)
    write_rtstruct(tmp_path / "P1" / "plan", {"GTV 1": [square(1)]}, referenced_series="1.3.1")
    found = find_cases(source, images=GLOBS, rename={"GTV*": "tumour"})
    (case,) = found.cases  # what the second * matches differs: the study says that they belong together
    assert found.channels == ("CT", "PET") and [image.modality for image in case.images] == ["CT", "PT"]
    assert drawn(found) == {case.case_id: ["plan"]}
    image = read_images(case, 0.05)
    assert image.array.shape == (2, 10, 12, 4)
    # Between the centres of PET pixels values are linear: of pixels (0, 0) and (1, 1), at a quarter and three quarters.
    corner = _halves()[0].T
    assert image.array[1, 1, 0, 0] == pytest.approx(0.75 * corner[0, 0] + 0.25 * corner[1, 0], abs=1e-3)
    assert read_label_map(case, image.geometry, 0.05).array.sum() == 25


def test_channels_of_other_frames_are_refused_unless_registered(two_modalities: Callable[..., Path]) -> None:
    (case,) = find_cases(two_modalities("9.9"), images=GLOBS).cases
    with pytest.raises(GeometryError, match="nothing says that both show one place.*--registered"):
        read_images(case, 0.05)
    assert read_images(case, 0.05, registered=True).array.shape == (2, 10, 12, 4)


def test_a_segment_that_is_missing_or_dropped(
    tmp_path: Path, write_series: Callable[..., Path], write_rtstruct: WriteRtstruct
) -> None:
    for number in (1, 2):
        write_series(f"P{number}", f"1.3.{number}")
    write_rtstruct(tmp_path / "1.dcm", {"liver": [square(1)], "BODY": [square(1, 0.5, 8.5)]}, referenced_series="1.3.1")
    write_rtstruct(tmp_path / "2.dcm", {"external": [square(1)]}, referenced_series="1.3.2")
    found = find_cases(tmp_path, rename={"body": "", "ext*": ""})
    assert drawn(found) == {"P1": ["1.dcm"]}
    assert "no segment is left in it" in found.problems[0].message
    (case,) = found.cases
    label_map = read_label_map(case, read_images(case, 0.05).geometry, 0.05).array
    assert sorted(np.unique(label_map)) == [0, 1] and (label_map > 0).sum() == 25


def test_a_dataset_json_names_the_labels_of_segments(
    tmp_path: Path, write_series: Callable[..., Path], write_rtstruct: WriteRtstruct
) -> None:
    write_series("CT", "1.3.1")
    write_rtstruct(tmp_path / "a.dcm", {"Liver": [square(1)], "kidney": [square(2)]}, referenced_series="1.3.1")
    (tmp_path / "dataset.json").write_text('{"labels": {"liver": 7}}')
    (problem,) = find_cases(tmp_path).problems
    assert "'kidney' is none of the labels in dataset.json" in problem.message
    found = find_cases(tmp_path, rename={"kidney": ""})
    assert found.labels is not None and found.labels.values == [7]
    (case,) = found.cases
    assert case.label is not None and case.label.values == {"Liver": 7}


def test_segmentations_that_are_not_taken_are_noted(
    tmp_path: Path, write_series: Callable[..., Path], write_rtstruct: WriteRtstruct, write_image: Callable[..., Path]
) -> None:
    write_series("CT", "1.3.1")
    write_image(tmp_path / "CT_mask.nii.gz")
    write_rtstruct(tmp_path / "plan.dcm", {"liver": [square(1)]}, referenced_series="1.3.1")
    found = find_cases(tmp_path)
    assert drawn(found) == {"CT": ["CT_mask.nii.gz"]}
    assert found.notes == ("segmentations of no case, left out: plan.dcm",)
    assert not find_cases(tmp_path, labelled=False).notes
