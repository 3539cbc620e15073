"""predict --format: what is written of each case, and what is told of it. The network is one of thresholds."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from dicom_kinds import BALLS, KINDS, balls, write_kind
from model_records import record_of
from PIL import Image
from pydicom import dcmread
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.errors import ConfigError, OutputError, SourceError
from medseg.inferers.model import save_model
from medseg.io import mask_formats as formats
from medseg.io.mask_formats import FORMATS, REPORTS, format_named
from medseg.io.read import read_segmentation, read_volume, segments_of
from medseg.labels import Labels
from medseg.plan import Plan

LABELS = Labels.from_names({"core": 3}, {"ball": (3, 7)}).described({"ball": {"colour": (1, 2, 3)}})


class Thresholds(torch.nn.Module):
    """300 to 700 is the rim of a ball (no structure by itself), more is its core."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([500 - image, (image - 500) * 2 - 200, 200 - (image - 500).abs()], dim=1)


@pytest.fixture
def run(tmp_path: Path, tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Path:
    record = record_of(tiny_plan, LABELS, ("CT",))
    save_model(tmp_path / "Balls 5" / "model", record, {})
    monkeypatch.setattr("medseg.inferers.model.build_network", lambda *_: Thresholds())
    monkeypatch.setattr("medseg.inferers.model.shapes_of", lambda *_: None)
    return tmp_path / "Balls 5"


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    affine = np.diag([-0.9, -1.2, 2.5, 1.0])
    affine[:3, 3] = 3, 40, 10
    shape = (44, 40, 20)
    world = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    path = tmp_path / "source" / "b.nii.gz"
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(balls(world * (-1, -1, 1)).astype(np.int16), affine), path)
    return path


def predictions(folder: Path) -> dict:
    return json.loads((folder / "predictions.json").read_text())


@pytest.mark.parametrize("kind", ["oblique", "tilted by 20°", "uneven", "enhanced"])
def test_a_dicom_study_in_all_formats(run: Path, kind: str, tmp_path: Path) -> None:
    write_kind(tmp_path / "study", KINDS[kind])
    names = [name for name in FORMATS if name != "dicom-seg-labelmap"]  # regions overlap
    names += REPORTS if kind == "tilted by 20°" else ()
    result = medseg.predict(run, tmp_path / "study", tmp_path / "masks", device="cpu", formats=names)
    (prediction,) = result.predictions
    assert not result.problems
    (case,) = predictions(tmp_path / "masks")["cases"]
    name = prediction.case_id
    for format_ in map(format_named, names):
        path = tmp_path / "masks" / case["masks"][format_.name]
        assert path.name == f"{name}{format_.suffix}"
        assert path.is_file() or sorted(file.name.split(".")[0] for file in path.iterdir()) == ["ball", "core"]
        assert case["certificates"][format_.name]["passed"]
        assert case["certificates"][format_.name]["n_different"] == 0
    seg = dcmread(tmp_path / "masks" / f"{name}.seg.dcm")
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["core", "ball"]
    algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "Balls 5"
    assert [segment.colour for segment in segments_of(tmp_path / "masks" / f"{name}.seg.nrrd")][1] == (1, 2, 3)
    assert prediction.path == tmp_path / "masks" / f"{name}.nii.gz"
    found = prediction.label_map
    assert set(np.unique(found.array)) == {0, 3, 7}
    volumes = [4 / 3 * np.pi * radius**3 / 1000 for _, radius in BALLS]
    assert prediction.volumes_ml.keys() == {"core", "ball"}
    assert prediction.volumes_ml["ball"] == pytest.approx(sum(volumes), rel=0.2)
    segments = read_segmentation(tmp_path / "masks" / f"{name}.seg.nrrd")
    assert np.array_equal(segments.mask(segments.segments[1]), found.label_map > 0)


def test_a_report_comes_with_the_segmentation_that_it_refers_to(run: Path, tmp_path: Path) -> None:
    write_kind(tmp_path / "study", KINDS["CT"])
    result = medseg.predict(run, tmp_path / "study", tmp_path / "masks", device="cpu", formats=["dicom-sr"])
    (prediction,) = result.predictions
    seg, report = (dcmread(mask.path) for mask in prediction.masks)
    assert [mask.format.name for mask in prediction.masks] == ["dicom-seg", "dicom-sr"]
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    named = {each.SeriesInstanceUID: each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for each in evidence}
    assert named[seg.SeriesInstanceUID] == seg.SOPInstanceUID
    assert report.StudyInstanceUID == seg.StudyInstanceUID and report.PatientID == seg.PatientID


def test_statistics_and_previews_of_each_case(run: Path, nifti: Path, tmp_path: Path) -> None:
    shutil.copy(nifti, nifti.with_name("a.nii.gz"))
    arguments = ["predict", str(run), str(nifti.parent), "-o", str(tmp_path / "masks"), "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, "--statistics", "--preview"])
    assert done.exit_code == 0, done.output
    masks = tmp_path / "masks"
    with (masks / "statistics.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["case"], row["structure"]) for row in rows] == [
        ("a", "core"), ("a", "ball"), ("b", "core"), ("b", "ball")
    ]  # fmt: skip
    ball = read_volume(masks / "b.nii.gz").label_map > 0
    image = read_volume(nifti)
    assert float(rows[3]["volume_ml"]) == pytest.approx(ball.sum() * image.geometry.voxel_volume_ml, rel=1e-5)
    assert float(rows[3]["mean_CT_HU"]) == pytest.approx(image.array[0][ball].mean(), rel=1e-5)
    assert float(rows[3]["axial_diameter_mm"]) > float(rows[2]["axial_diameter_mm"]) > 0
    record = json.loads((masks / "statistics" / "b.json").read_text())
    assert record["model"] == "Balls 5" and record["measures"]["rows"][1]["voxels"] == ball.sum()
    with Image.open(masks / "preview" / "b.png") as picture:
        assert np.ptp(np.asarray(picture.convert("RGB")).astype(int), axis=-1).max() > 100  # there are colours
    assert predictions(masks)["cases"][0]["extras"] == ["statistics", "preview"]
    again = CliRunner().invoke(app, [*arguments, "--statistics", "--images", "**/b.nii.gz"])
    assert again.exit_code == 0 and "1 case done before" in " ".join(again.stderr.split())
    with pytest.raises(ConfigError, match="statistics are written only where 'output' names a folder"):
        medseg.predict(run, nifti, tmp_path / "mask.nii.gz", device="cpu", statistics=True)


@pytest.mark.slow
def test_radiomics_features_of_each_case(run: Path, nifti: Path, tmp_path: Path) -> None:
    pytest.importorskip("mirp", reason="MIRP is not installed (medseg[radiomics])")
    result = medseg.predict(run, nifti, tmp_path / "masks", device="cpu", radiomics=True, statistics=True)
    assert not result.problems
    with (tmp_path / "masks" / "radiomics.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["case"], row["structure"]) for row in rows] == [("b", "core"), ("b", "ball")]
    with (tmp_path / "masks" / "statistics.csv").open(newline="") as table:
        measured = list(csv.DictReader(table))
    for row, known in zip(rows, measured, strict=True):
        assert len(row) > 150
        assert float(row["morph_vol_approx"]) == pytest.approx(1000 * float(known["volume_ml"]), rel=1e-4)
        assert float(row["stat_mean"]) == pytest.approx(float(known["mean_CT_HU"]), rel=1e-4)


def test_without_mirp_it_is_said_how_to_install_it(
    run: Path, nifti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.extras.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'medseg\[radiomics\]'"):
        medseg.predict(run, nifti, tmp_path / "masks", device="cpu", radiomics=True)


def test_a_format_that_cannot_be_is_a_problem_and_the_others_are_written(
    run: Path, nifti: Path, tmp_path: Path
) -> None:
    arguments = ["predict", str(run), str(nifti), "-o", str(tmp_path / "masks"), "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, "--format", "dicom-seg", "--format", "seg-nrrd", "--format", "nifti"])
    assert done.exit_code == 1, done.output
    told = " ".join(done.stderr.split())
    assert "dicom-seg is written on the slices of a DICOM series" in told
    assert "choose nifti or seg-nrrd" in told
    assert "2 masks in" in told
    record = predictions(tmp_path / "masks")
    assert record["cases"][0]["masks"] == {"seg-nrrd": "b.seg.nrrd", "nifti": "b.nii.gz"}
    assert [problem["case_id"] for problem in record["problems"]] == ["b"]
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [
        "b.nii.gz", "b.seg.nrrd", "predictions.json"
    ]  # fmt: skip


def test_what_cannot_be_written_at_all_is_not_computed(
    run: Path, nifti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Thresholds, "forward", lambda *_: pytest.fail("computed"))
    with pytest.raises(SourceError, match="no case could be predicted; b: rtstruct is written on the slices"):
        medseg.predict(run, nifti, tmp_path / "masks", device="cpu", backend="torch", formats=["rtstruct"])


def test_a_mask_that_is_not_confirmed_is_a_problem(
    run: Path, nifti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = FORMATS["seg-nrrd"]

    def mirrored(path: Path, mask: formats.LabelMapVolume) -> list[Path]:
        return right.write(path, replace(mask, label_map=mask.label_map[::-1]))

    monkeypatch.setitem(FORMATS, "seg-nrrd", replace(right, write=mirrored))
    result = medseg.predict(run, nifti, tmp_path / "masks", device="cpu", formats=["seg-nrrd", "nifti"])
    (problem,) = result.problems
    assert "b.seg.nrrd: is not what was to be written" in problem.message
    assert [mask.format.name for mask in result.predictions[0].masks] == ["nifti"]
    assert not (tmp_path / "masks" / "b.seg.nrrd").exists()


def test_pictures_stay_pictures_unless_asked_for_otherwise(run: Path, tmp_path: Path) -> None:
    pixels = np.zeros((30, 26), np.uint16)
    pixels[4:20, 5:15], pixels[8:12, 8:12] = 500, 900
    Image.fromarray(pixels).save(tmp_path / "cells.png")
    for chosen, name in (((), "cells.png"), (("nifti",), "cells.nii.gz")):
        (prediction,) = medseg.predict(run, tmp_path / "cells.png", tmp_path / "masks", device="cpu", formats=chosen)
        assert prediction.path == tmp_path / "masks" / name
        assert np.array_equal(prediction.label_map.label_map[..., 0].T, np.select([pixels > 800, pixels > 0], [3, 7]))
        assert prediction.volumes_ml == {}
        assert prediction.voxels == {"core": 16, "ball": 160}


def test_a_label_map_is_kept_or_written(run: Path, nifti: Path, tmp_path: Path) -> None:
    (kept,) = medseg.predict(run, nifti, device="cpu")
    (written,) = medseg.predict(run, nifti, tmp_path / "a", device="cpu", formats=("stl", "nifti"))
    assert kept.path is None
    assert written.path == tmp_path / "a" / "b_stl"
    assert np.array_equal(kept.label_map.array, written.label_map.array)
    (other,) = medseg.predict(run, nifti, tmp_path / "b", device="cpu", formats=("seg-nrrd",))
    with pytest.raises(OutputError, match="predict with nifti too"):
        other.label_map  # noqa: B018


def test_wrong_formats_are_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'nifti'"):
        medseg.predict(tmp_path / "no model", tmp_path, tmp_path / "masks", formats=["nift"])
    with pytest.raises(ConfigError, match="only where 'output' names a folder"):
        medseg.predict(tmp_path / "no model", tmp_path, formats=["nifti"])


def test_masks_of_a_prediction_are_exported_with_its_names(run: Path, nifti: Path, tmp_path: Path) -> None:
    medseg.predict(run, nifti, tmp_path / "masks", device="cpu")
    written = medseg.export(tmp_path / "masks" / "b.nii.gz", tmp_path / "b.seg.nrrd")
    assert [segment.name for segment in segments_of(written.path)] == ["core", "ball"]


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii", "Mask.seg.nrrd"])
def test_one_case_goes_into_one_file(run: Path, nifti: Path, name: str, tmp_path: Path) -> None:
    output = tmp_path / "new" / name
    result = medseg.predict(run, nifti, output, device="cpu", backend="torch")
    (prediction,) = result
    assert (prediction.path, result.output) == (output, output)
    assert [path.name for path in output.parent.iterdir()] == [name]
    assert read_volume(output).array.any()
    assert result.record["cases"][0]["masks"] == {prediction.masks[0].format.name: name}


def test_one_file_of_a_dicom_study(run: Path, tmp_path: Path) -> None:
    write_kind(tmp_path / "study", KINDS["CT"])
    for chosen, kind in (((), "SEG"), (("rtstruct",), "RTSTRUCT")):
        medseg.predict(run, tmp_path / "study", tmp_path / "mask.dcm", device="cpu", backend="torch", formats=chosen)
        assert dcmread(tmp_path / "mask.dcm").Modality == kind


def test_one_file_is_of_one_case_and_one_format(run: Path, nifti: Path, tmp_path: Path) -> None:
    shutil.copy(nifti, nifti.with_name("c.nii.gz"))
    how = {"device": "cpu", "backend": "torch"}
    with pytest.raises(OutputError, match=r"mask\.nii\.gz is one file, and there are 2 cases \(b, c.*; give a folder"):
        medseg.predict(run, nifti.parent, tmp_path / "mask.nii.gz", **how)
    with pytest.raises(OutputError, match=r"is one file, and nifti, seg-nrrd are several; give a folder"):
        medseg.predict(run, nifti, tmp_path / "mask.nii.gz", formats=["nifti", "seg-nrrd"], **how)
    with pytest.raises(OutputError, match=r"a file of nifti is named \.nii\.gz or \.nii"):
        medseg.predict(run, nifti, tmp_path / "mask.seg.nrrd", formats=["nifti"], **how)
    with pytest.raises(OutputError, match=r"does not say what to write"):
        medseg.predict(run, nifti, tmp_path / "mask.stl", **how)
    with pytest.raises(OutputError, match=r"b\.nii\.gz is the image that is read"):
        medseg.predict(run, nifti, nifti, **how)
    with pytest.raises(ConfigError, match=r"uncertainty are written only where 'output' names a folder"):
        medseg.predict(run, nifti, tmp_path / "mask.nii.gz", uncertainty=True, **how)
    assert not list(tmp_path.glob("mask*"))


def test_a_file_on_the_command_line(run: Path, nifti: Path, tmp_path: Path) -> None:
    command = ["predict", str(run), str(nifti), "-o", str(tmp_path / "m.nii.gz"), "--device", "cpu", "--json"]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0
    assert json.loads(told.stdout)["cases"][0]["masks"] == {"nifti": "m.nii.gz"}
    assert f"1 mask in {tmp_path / 'm.nii.gz'}" in told.stderr
