"""Secondary captures and encapsulated PDFs against dciodvfy, pydicom and a reader of PDF."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_judges import complaints
from pydicom import dcmread

from medseg.instances.object_map import ObjectMap
from medseg.instances.object_structures import coloured
from medseg.io.dicom_pdf.check import check_dicom_pdf
from medseg.io.dicom_sc.check import check_dicom_sc
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import REPORTS, write_mask
from medseg.labels import Labels
from medseg.pictures.coloured_slices import legend

SegmentedBalls = Callable[..., LabelMapVolume]
UNPAIRED = "attribute <Laterality>"  # nobody knows whether a body part is paired: empty, which dciodvfy warns of


@pytest.mark.parametrize("kind", ["CT", pytest.param("tilted by 20°", marks=pytest.mark.slow)])
def test_slices_in_colour_lie_where_the_slices_lie(tmp_path: Path, segmented_balls: SegmentedBalls, kind: str) -> None:
    segmented = segmented_balls(tmp_path / "series", kind)
    path = write_mask(REPORTS["dicom-sc"], tmp_path / "sc.dcm", segmented).path
    assert [line for line in complaints(path) if UNPAIRED not in line] == []
    capture = dcmread(path)
    pictures = capture.pixel_array.astype(int)
    is_coloured = np.ptp(pictures[:, : 40 * 12], axis=-1) > 0  # 44 columns become 528
    assert pictures.shape[2] == 44 * 12 and capture.BurnedInAnnotation == "NO"
    shared = capture.SharedFunctionalGroupsSequence[0]
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    along, down = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    for own, is_shown in zip(capture.PerFrameFunctionalGroupsSequence, is_coloured, strict=True):
        corner = np.array(own.PlanePositionSequence[0].ImagePositionPatient, float)
        row, column = np.indices(is_shown.shape)[..., None]
        world = (corner + column * between_columns * along + row * between_rows * down) * (-1, -1, 1)
        nearest = (
            np.rint(segmented.geometry.index(world) - 1e-6).astype(int).clip(0, np.array(segmented.geometry.shape) - 1)
        )
        expected = segmented.label_map[tuple(np.moveaxis(nearest, -1, 0))] > 0
        assert (is_shown != expected).mean() < (0.0005 if kind == "CT" else 0.01)


def test_a_wrong_colour_and_a_missing_slice_are_found(tmp_path: Path, balls: LabelMapVolume) -> None:
    path = write_mask(REPORTS["dicom-sc"], tmp_path / "sc.dcm", balls).path
    turned = np.array([0, 2, 1])[balls.label_map]
    assert "voxels differ" in check_dicom_sc(path, replace(balls, label_map=turned)).fault
    more = balls.label_map.copy()
    more[5:9, 5:9, 0] = 1
    assert "slices with structures are missing" in check_dicom_sc(path, replace(balls, label_map=more)).fault


def test_objects_have_colours_of_their_own(tmp_path: Path, balls: LabelMapVolume) -> None:
    numbers = np.where(balls.label_map == 1, 1 + (np.arange(balls.label_map.shape[0])[:, None, None] % 2), 0)
    labels = Labels.from_names({"kidney": 1}).with_instances(["kidney"])
    painted = coloured(numbers > 0, labels, ObjectMap(numbers.astype(np.int32), np.array([1, 1]), ("1", "2")))
    objects = replace(balls, label_map=(numbers > 0).astype(np.uint8), labels=labels, painted=lambda: painted)
    written = write_mask(REPORTS["dicom-sc"], tmp_path / "sc.dcm", objects)
    assert written.certificate.passed and len({label.colour for label in painted[1]}) == 3
    pixels = dcmread(written.path).pixel_array.reshape(-1, 3)
    for label in painted[1][1:]:
        assert (pixels == label.colour).all(axis=-1).sum() > 100
    assert "voxels differ" in check_dicom_sc(written.path, replace(objects, painted=None)).fault
    document = dcmread(write_mask(REPORTS["dicom-pdf"], tmp_path / "page.dcm", objects).path)
    plain = dcmread(write_mask(REPORTS["dicom-pdf"], tmp_path / "plain.dcm", replace(objects, painted=None)).path)
    assert document.EncapsulatedDocument != plain.EncapsulatedDocument


@pytest.mark.slow
def test_nothing_is_said_to_be_nothing(tmp_path: Path, balls: LabelMapVolume) -> None:
    empty = replace(balls, label_map=np.zeros_like(balls.label_map))
    capture = dcmread(write_mask(REPORTS["dicom-sc"], tmp_path / "sc.dcm", empty).path)
    assert capture.NumberOfFrames == 1 and np.ptp(capture.pixel_array, axis=-1).max() == 0
    assert write_mask(REPORTS["dicom-pdf"], tmp_path / "page.dcm", empty).certificate.passed


def test_legends_grow_with_what_they_hold() -> None:
    entries = [((255, 0, 0), f"structure {i} 12.3 ml") for i in range(30)]
    short, long = legend(entries[:2], ["a"], 512), legend(entries, ["a", "b"], 512)
    assert short.shape[1] == long.shape[1] == 512 and len(long) > 4 * len(short)
    assert (legend(entries[:1], [], 512) == (255, 0, 0)).all(axis=-1).sum() > 100


def test_a_page_is_a_pdf_with_picture_table_and_warning(tmp_path: Path, balls: LabelMapVolume) -> None:
    path = write_mask(REPORTS["dicom-pdf"], tmp_path / "page.dcm", balls).path
    assert complaints(path) == []
    document = dcmread(path)
    assert document.SeriesDescription.endswith("(not for clinical use)")
    assert document.PatientID == dcmread(balls.source.files[0]).PatientID
    content = bytes(document.EncapsulatedDocument)[: document.EncapsulatedDocumentLength]
    if shutil.which("gs"):
        (tmp_path / "page.pdf").write_bytes(content)
        read = subprocess.run(["gs", "-q", "-sDEVICE=txtwrite", "-o", "-", tmp_path / "page.pdf"], capture_output=True)
        text = " ".join(read.stdout.decode().split())
        for said in ("Not for clinical use", "Model 7, medseg", "kidney_left", "2.133 ml", "HU"):
            assert said in text
        assert str(document.PatientName) not in text and document.PatientID not in text
    document.EncapsulatedDocument = content[:-300]
    document.save_as(path)
    assert check_dicom_pdf(path, balls).fault == "its document is no whole PDF"
