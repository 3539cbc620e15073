"""Structured reports (TID 1500) against dciodvfy, dcmqi's tid1500reader and highdicom."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_judges import complaints, dcmqi_program
from dicom_kinds import BALLS
from parameters import mostly_slow

from medseg.errors import OutputError
from medseg.io.dicom_seg.writer import write_dicom_label_map, write_dicom_seg
from medseg.io.dicom_sr.check import check_dicom_sr
from medseg.io.dicom_sr.writer import write_dicom_sr
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import REPORTS, write_mask
from medseg.labels import Labels

SegmentedBalls = Callable[..., LabelMapVolume]


def measured_by_dcmqi(path: Path) -> dict[str, dict[tuple[str, str], float]]:
    """Values by name and derivation, of each structure by its tracking identifier."""
    dcmqi_program("tid1500reader", "--inputDICOM", path, "--outputMetadata", path.with_suffix(".json"))
    groups = json.loads(path.with_suffix(".json").read_text())["Measurements"]
    return {
        group["TrackingIdentifier"]: {
            (item["quantity"]["CodeMeaning"], item.get("derivationModifier", {}).get("CodeMeaning", "")): float(
                item["value"]
            )
            for item in group["measurementItems"]
        }
        for group in groups
    }


@pytest.mark.parametrize("kind", mostly_slow(("CT", "MR", "PET", "tilted by 20°"), "CT"))
def test_others_read_the_measurements(tmp_path: Path, segmented_balls: SegmentedBalls, kind: str) -> None:
    segmented = segmented_balls(tmp_path / "series", kind)
    path = write_mask(REPORTS["dicom-sr"], tmp_path / "report.dcm", segmented).path
    assert complaints(path) == []
    found = measured_by_dcmqi(path)
    assert found.keys() == {"liver", "kidney_left"}
    for (name, value), (_, radius) in zip({"liver": 1, "kidney_left": 2}.items(), BALLS, strict=True):
        mask = segmented.label_map == value
        volume = found[name]["Volume", ""]
        assert volume == pytest.approx(mask.sum() * np.prod(segmented.geometry.spacing), rel=1e-6)
        assert found[name]["Diameter", "Maximum"] == pytest.approx(2 * radius, abs=2.5)
        assert found[name]["Long axis", ""] >= found[name]["Short axis", ""] > 1.5 * radius
        intensity = {"MR": "MR signal intensity"}.get(kind, "Attenuation Coefficient")
        if kind == "PET":
            assert not any("Mean" in each for each in found[name])  # its header does not say Bq/ml
        else:
            mean = segmented.image.array[0][mask].astype(np.float64).mean()
            assert found[name][intensity, "Mean"] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(
    ("form", "write"),
    [pytest.param("BINARY", write_dicom_seg, marks=pytest.mark.slow), ("LABELMAP", write_dicom_label_map)],
)
def test_it_refers_to_the_segmentation_that_is_written_of_the_same_mask(
    tmp_path: Path, balls: LabelMapVolume, form: str, write: Callable[[Path, LabelMapVolume], list[Path]]
) -> None:
    balls = replace(balls, segmentation=form)
    seg, report = pydicom.dcmread(write(tmp_path / "seg.dcm", balls)[0]), write_dicom_sr(tmp_path / "sr.dcm", balls)[0]
    sr = highdicom.sr.srread(report)
    groups = sr.content.get_volumetric_roi_measurement_groups()
    for group, number in zip(groups, (1, 2), strict=True):
        (item,) = (item for item in group.referenced_segment if "ReferencedSOPSequence" in item)
        reference = item.ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == seg.SOPClassUID
        described = next(each for each in seg.SegmentSequence if each.SegmentNumber == number)
        assert group.tracking_uid == described.TrackingUID
        assert group.finding_type.value == described.SegmentedPropertyTypeCodeSequence[0].CodeValue
    assert groups[1].finding_sites[0].laterality.meaning == "Left"
    assert sr.SeriesDescription.endswith("(not for clinical use)")
    assert (sr.VerificationFlag, sr.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert sr.PatientID == seg.PatientID and sr.StudyInstanceUID == seg.StudyInstanceUID


@pytest.mark.slow
def test_regions_nothing_and_any_names(tmp_path: Path, balls: LabelMapVolume) -> None:
    labels = Labels.from_names({"Hirnödem \\ 50 %": 1, "nowhere": 2}, {"whole liver and " + "long " * 20: (1, 2)})
    segmented = replace(balls, label_map=np.where(balls.label_map == 1, 1, 0), labels=labels)
    path = write_mask(REPORTS["dicom-sr"], tmp_path / "sr.dcm", segmented).path
    found = measured_by_dcmqi(path)
    first, nowhere, whole = found.values()
    assert first == whole and list(nowhere.items()) == [(("Volume", ""), 0.0)]


def test_the_check_finds_what_is_wrong(tmp_path: Path, balls: LabelMapVolume) -> None:
    (path,) = write_dicom_sr(tmp_path / "sr.dcm", balls)
    smaller = balls.label_map.copy()
    smaller[tuple(np.argwhere(smaller == 1)[0])] = 0
    assert "1 of" in check_dicom_sr(path, replace(balls, label_map=smaller)).fault
    renamed = Labels.from_names({"liver": 1, "spleen": 2})
    assert "instead of liver, spleen" in check_dicom_sr(path, replace(balls, labels=renamed)).fault
    fewer = Labels.from_names({"liver": 1})
    assert "segments [1, 2] instead of [1]" in check_dicom_sr(path, replace(balls, labels=fewer)).fault
    with pytest.raises(OutputError, match="written on the slices of a DICOM series"):
        write_mask(REPORTS["dicom-sr"], tmp_path / "no.dcm", replace(balls, source=None))
