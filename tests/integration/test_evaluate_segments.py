"""Predictions and references with named segments, measured against each other and against label maps."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drawn_study import LIVER, TUMOUR, drawn, itk_image, write_contours, write_frames, write_itk, write_seg_nrrd

from medseg.errors import LabelError, SourceError
from medseg.evaluation.evaluation import Evaluation
from medseg.labels import Labels
from medseg.workflows.evaluate import evaluate

NAMES = Labels.from_names({"tumour": 5, "liver": 9})  # other values than in the files of the references
WRITERS = {
    "CT.nii.gz": write_itk, "CT.nrrd": write_itk, "CT.mha": write_itk, "CT.seg.nrrd": write_seg_nrrd,
    "CT.seg.dcm": write_frames, "CT.rtstruct.dcm": write_contours,
}  # fmt: skip
RENAME = {"GTV*": "tumour"}


def dice(evaluation: Evaluation) -> dict[str, float | None]:
    assert not evaluation.problems
    return {record.label: record.values["dice"] for record in evaluation.records}


def predicted(folder: Path, shift: int = 0) -> Path:
    """A label map in the values of a model that learnt ``NAMES``, perhaps some columns off."""
    folder.mkdir(exist_ok=True)
    values = np.zeros(TUMOUR + 1, np.uint8)
    values[[LIVER, TUMOUR]] = NAMES.values[1], NAMES.values[0]
    sitk.WriteImage(itk_image(np.roll(values[drawn()], shift, axis=0)), str(folder / "CT.nii.gz"))
    (folder / "predictions.json").write_text(json.dumps({"labels": NAMES.model_dump(mode="json")}))
    return folder


@pytest.mark.parametrize("name", ["plan.dcm", "seg.dcm", "CT.seg.nrrd"])
def test_a_study_with_segments_is_a_reference_by_their_names(ct: Path, tmp_path: Path, name: str) -> None:
    {"plan.dcm": write_contours, "seg.dcm": write_frames, "CT.seg.nrrd": write_seg_nrrd}[name](ct / name)
    rename = RENAME if name == "plan.dcm" else None
    masks = tmp_path / "masks"
    assert dice(evaluate(predicted(masks), ct, rename=rename, workers=1)) == {"tumour": 1.0, "liver": 1.0}
    shifted = dice(evaluate(predicted(masks, 1), ct, rename=rename, workers=1))
    assert shifted["tumour"] == 0.5 and 0.5 < (shifted["liver"] or 0) < 1


@pytest.mark.parametrize("name", ["CT.nrrd", "CT.mha", "CT.seg.nrrd", "CT.seg.dcm"])
def test_predictions_in_every_format(tmp_path: Path, name: str) -> None:
    masks, references = predicted(tmp_path / "masks"), tmp_path / "references"
    (masks / "predictions.json").unlink()
    (masks / "CT.nii.gz").unlink()
    references.mkdir()
    WRITERS[name](masks / name)
    write_itk(references / "CT.nii.gz")
    assert set(dice(evaluate(masks, references, workers=1)).values()) == {1.0}


@pytest.mark.parametrize("name", ["CT.seg.dcm", "CT.rtstruct.dcm"])
def test_segments_against_segments_on_the_slices_of_their_image(ct: Path, tmp_path: Path, name: str) -> None:
    write_contours(ct / "plan.dcm")
    (tmp_path / "masks").mkdir()
    WRITERS[name](tmp_path / "masks" / name)
    rename = RENAME if name == "CT.seg.dcm" else None
    assert set(dice(evaluate(tmp_path / "masks", ct, rename=rename, workers=1)).values()) == {1.0}


def test_of_several_formats_of_a_case_the_label_map_is_taken(ct: Path, tmp_path: Path) -> None:
    write_contours(ct / "plan.dcm")
    masks = predicted(tmp_path / "masks", 1)
    for name in ("CT.seg.dcm", "CT.seg.nrrd"):
        WRITERS[name](masks / name)
    assert dice(evaluate(masks, ct, rename=RENAME, workers=1))["tumour"] == 0.5


def test_names_that_are_no_label_are_told(ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = predicted(tmp_path / "masks")
    write_contours(ct / "plan.dcm")
    # The contours of the tumour are none of the labels: only the liver is compared.
    evaluation = evaluate(masks, ct, workers=1)
    assert {r.label: r.status for r in evaluation.records} == {"tumour": "false_alarm", "liver": "found"}
    assert "no labels, and not compared: GTV-1; name them by --rename" in capsys.readouterr().err
    with pytest.raises(LabelError, match=r"its segments \(Liver, GTV-1\) are none of the labels a, b; .*--rename"):
        (masks / "predictions.json").write_text(
            json.dumps({"labels": Labels.from_names({"a": 5, "b": 9}).model_dump(mode="json")})
        )
        evaluate(masks, ct, workers=1)


def test_another_grid_and_contours_without_one_are_problems(ct: Path, tmp_path: Path) -> None:
    write_contours(ct / "plan.dcm")
    masks = tmp_path / "masks"
    masks.mkdir()
    sitk.WriteImage(itk_image(drawn()[:, :, :-1]), str(masks / "CT.nii.gz"))
    (problem,) = evaluate(masks, ct, workers=1).problems
    assert "lie on different grids: shape" in problem.message
    for name in ("a.dcm", "b.dcm"):
        write_contours(tmp_path / name)
    (problem,) = evaluate(tmp_path / "a.dcm", tmp_path / "b.dcm", workers=1).problems
    assert "contours have no grid of their own" in problem.message


def test_folders_without_masks_are_refused(ct: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no label map, DICOM SEG, RTSTRUCT or \.seg\.nrrd in it"):
        evaluate(ct / "CT", ct, workers=1)
