"""DICOM as archives hold it: what is left out is said, what is odd stands with its series."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

WriteSlices = Callable[..., list[Path]]
AXIAL = (1, 0, 0, 0, 1, 0)


def slices(n: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 99, (n, 20, 18)).astype(np.int16)


def uids(patient: str = "P1", study: str = "1.2.3") -> tuple[str, str, str]:
    return patient, study, generate_uid()


def test_localizers_and_secondary_captures_are_left_out_saying_so(
    tmp_path: Path, look: Any, findings: Any, write_slices: WriteSlices
) -> None:
    write_slices(tmp_path / "ct", slices(), uids=uids(), SeriesDescription="Venous")
    write_slices(tmp_path / "scout", slices(1), uids=uids(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_slices(
        tmp_path / "shot", slices(1), uids=uids(), SOPClassUID=SecondaryCaptureImageStorage, ConversionType="WSD"
    )
    found = look(tmp_path)
    assert [series.name for series in found.series] == ["Venous"]
    assert found.problems == ()
    told = " ".join(finding.what for finding in findings(found, "search-note"))
    assert "scout" in told
    assert "shot" in told


def test_several_modalities_of_a_patient_are_one_study(tmp_path: Path, look: Any, write_slices: WriteSlices) -> None:
    for i, modality in enumerate(("CT", "MR", "PT")):
        write_slices(tmp_path / modality, slices(seed=i), uids=uids(), Modality=modality, StudyDescription="Sarcoma")
    found = look(tmp_path)
    (patient,) = found.patients
    (study,) = patient.studies
    assert sorted(series.format for series in study.series) == ["CT", "MR", "PT"]
    assert study.description == "Sarcoma"


def test_a_tilted_gantry_stands_with_its_series(tmp_path: Path, look: Any, write_slices: WriteSlices) -> None:
    positions = [[0.0, 3 * i * float(np.tan(np.radians(15))), 3.0 * i] for i in range(6)]
    write_slices(tmp_path, slices(), orientation=AXIAL, ImagePositionPatient=positions)
    found = look(tmp_path)
    (series,) = found.series
    (odd,) = series.oddities
    assert "tilted by 15.0°" in odd
    assert found.problems == ()


def test_a_missing_slice_stands_with_its_series(tmp_path: Path, look: Any, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, slices(8), orientation=AXIAL)
    paths[3].unlink()
    found = look(tmp_path)
    told = [*(odd for series in found.series for odd in series.oddities), *(each.what for each in found.findings)]
    assert any("missing" in each or "distance" in each for each in told)


def test_a_file_that_is_cut_short_is_found_by_its_size(tmp_path: Path, look: Any, write_slices: WriteSlices) -> None:
    big = np.random.default_rng(0).integers(0, 99, (6, 64, 64)).astype(np.int16)
    paths = write_slices(tmp_path / "bad", big, uids=uids())
    paths[2].write_bytes(paths[2].read_bytes()[:-5000])
    write_slices(tmp_path / "good", big + 1, uids=uids())
    found = look(tmp_path)
    assert [(finding.rule, finding.path.name) for finding in found.problems] == [("unreadable", "bad")]
    assert [series.name for series in found.series if not series.findings] == ["Abdomen"]


def test_names_of_segments_and_what_they_are_of(
    tmp_path: Path, look: Any, write_slices: WriteSlices, write_image: Any
) -> None:
    import SimpleITK

    write_image(tmp_path / "a/a.nii.gz", np.random.default_rng(0).integers(0, 99, (10, 9, 8)).astype(np.int16))
    drawn = np.zeros((8, 9, 10), np.uint8)
    drawn[2:5, 3:6, 3:6] = 1
    mask = SimpleITK.GetImageFromArray(drawn)
    mask.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    for key, value in {"ID": "Segment_1", "Name": "Tumour", "LabelValue": "1", "Layer": "0"}.items():
        mask.SetMetaData(f"Segment0_{key}", value)
    SimpleITK.WriteImage(mask, str(tmp_path / "a/a.seg.nrrd"))
    found = look(tmp_path)
    assert found.problems == ()
    (segmented,) = [series for series in found.series if series.segments]
    assert (segmented.segments, segmented.case_id, segmented.format) == (
        ("Tumour",),
        found.cases[0].case.case_id,
        "seg.nrrd",
    )
    assert found.cases[0].voxels == {"Tumour": 27}


def test_one_damaged_slice_does_not_stop_the_search(tmp_path: Path, look: Any, write_slices: WriteSlices) -> None:
    """Two slices share a place and have to be compared, and one of them has too few pixels."""
    write_slices(tmp_path / "good", slices(seed=1), uids=uids())
    positions = [[0.0, 0.0, z] for z in (0.0, 3.0, 3.0, 6.0)]
    pixels = [values.tobytes() for values in slices(4)]
    pixels[2] = pixels[2][:100]
    write_slices(
        tmp_path / "bad", slices(4), uids=uids(), orientation=AXIAL, ImagePositionPatient=positions, PixelData=pixels
    )
    found = look(tmp_path, voxels=True)
    assert "Abdomen" in [series.name for series in found.series if not series.findings]
    assert found.problems


def test_a_segmentation_by_itself_is_shown(tmp_path: Path, look: Any, write_image: Any) -> None:
    import SimpleITK

    mask = SimpleITK.GetImageFromArray(np.ones((8, 9, 10), np.uint8))
    for key, value in {"ID": "Segment_1", "Name": "Tumour", "LabelValue": "1", "Layer": "0"}.items():
        mask.SetMetaData(f"Segment0_{key}", value)
    SimpleITK.WriteImage(mask, str(tmp_path / "a.seg.nrrd"))
    for source in (tmp_path, tmp_path / "a.seg.nrrd"):
        found = look(source)
        assert [series.segments for series in found.series] == [("Tumour",)]
        assert list(found.images) == []
        assert [finding.rule for finding in found.problems] == ["no-cases"]
