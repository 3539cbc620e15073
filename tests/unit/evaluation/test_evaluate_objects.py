"""Objects that are told apart are compared one by one, whatever form they have."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medseg.evaluation.objects import ComparedObject, worst_objects
from medseg.table import read_table
from medseg.workflows.evaluate import evaluate


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Four objects, and a prediction: one right, one of IoU .6, two merged, one in two pieces, and one too many."""
    reference, prediction = np.zeros((2, 40, 30), np.uint16)
    reference[1:5, 1:6], prediction[1:5, 1:6] = 7, 3
    reference[10:20, 1:6], prediction[14:20, 1:6] = 300, 301  # of 10 rows 6
    reference[22:26, 1:6], reference[26:30, 1:6], prediction[22:30, 1:6] = 4, 5, 9
    reference[1:11, 12:20], prediction[1:6, 12:20], prediction[6:11, 12:20] = 6, 10, 11
    prediction[32:36, 22:26] = 12
    return reference, prediction


def write_pictures(folder: Path) -> tuple[Path, Path]:
    for name, array in zip(("references", "predictions"), maps(), strict=True):
        (folder / name).mkdir()
        Image.fromarray(array.T.astype(np.uint16)).save(folder / name / "a.png")
    return folder / "predictions", folder / "references"


def test_precision_of_all_objects_together_is_that_of_their_sums(tmp_path: Path) -> None:
    predictions, references = write_pictures(tmp_path)
    alone = np.zeros((30, 40), np.uint16)
    alone[3:7, 3:9] = 5
    Image.fromarray(alone).save(references / "b.png")
    Image.fromarray(alone * 0).save(predictions / "b.png")  # its one object is missed
    evaluation = evaluate(predictions, references, tmp_path / "out", instances="nucleus", workers=1)
    label = evaluation.summary.labels["nucleus"]
    assert label.pooled["object_ap_50"] == pytest.approx(4 / (4 + 2 + 2))  # 4 of 6 objects match, 6 were predicted
    assert label.metrics["object_ap_50"].mean == pytest.approx((4 / 7 + 0) / 2)
    assert label.pooled["object_ap"] == pytest.approx(np.mean([v for k, v in label.pooled.items() if k[-1] == "0"]))
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["summary"]["labels"]["nucleus"]["pooled"] == label.pooled
    assert "together" in (tmp_path / "out" / "report.html").read_text()


def test_values_of_pictures_that_number_objects(tmp_path: Path) -> None:
    evaluation = evaluate(*write_pictures(tmp_path), tmp_path / "out", instances="nucleus", workers=1)
    assert not evaluation.problems
    (record,) = evaluation.records
    values = record.values
    assert record.label == "nucleus"
    assert (values["prediction_objects"], values["reference_objects"], values["object_count_error"]) == (6, 5, 1)
    matched = 4  # of the merged ones, and of the pieces, one of IoU .5 each
    assert values["object_ap_50"] == pytest.approx(matched / (6 + 5 - matched))
    assert values["object_ap_60"] == pytest.approx(2 / (6 + 5 - 2))
    assert values["object_ap_70"] == pytest.approx(1 / (6 + 5 - 1))
    assert values["object_panoptic_quality"] == pytest.approx(2 * (1 + 0.6 + 0.5 + 0.5) / 11)
    assert (values["object_splits"], values["object_merges"]) == (1, 1)
    rows = read_table(tmp_path / "out" / "objects.csv", "")
    fates = {(row["reference"], row["prediction"]): row["fate"] for row in rows}
    assert fates[("7", "3")] == "matched" and fates[("300", "301")] == "matched" and fates[("", "12")] == "false_alarm"
    assert len(rows) == 5 + 6 - matched and sorted(row["fate"] for row in rows).count("matched") == matched
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Worst objects" in report and "false alarm" in report
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert stored["cases"]["a"]["nucleus"]["object_ap_50"] == values["object_ap_50"]
    assert "object_ap" in stored["definitions"] and "object" in stored["definitions"]


def test_object_maps_beside_label_maps(tmp_path: Path) -> None:
    reference, prediction = maps()
    for name, array in (("r", reference), ("p", prediction)):
        (tmp_path / name / "objects").mkdir(parents=True)
        nibabel.save(
            nibabel.Nifti1Image((array > 0).astype(np.uint8)[..., None], np.eye(4)), tmp_path / name / "a.nii.gz"
        )
        path = tmp_path / name / "objects" / "a.nii.gz"
        nibabel.save(nibabel.Nifti1Image(array.astype(np.int32)[..., None], np.eye(4)), path)
    (tmp_path / "d").mkdir()
    for folder, source in (("images", "r"), ("labels", "r"), ("objects", "r/objects")):
        (tmp_path / "d" / folder).mkdir()
        (tmp_path / "d" / folder / "a.nii.gz").write_bytes((tmp_path / source / "a.nii.gz").read_bytes())
    (tmp_path / "d" / "dataset.json").write_text('{"labels": {"cell": 1, "debris": 2}, "instances": ["cell"]}')
    evaluation = evaluate(tmp_path / "p", tmp_path / "d", metrics=["dice", "objects"], workers=1)
    assert not evaluation.problems
    cell, debris = evaluation.records
    assert cell.values["object_ap_50"] == pytest.approx(4 / 7) and cell.values["dice"] is not None
    assert debris.values["object_f1"] is None and debris.values["reference_objects"] == 0


def test_a_mask_without_numbers_is_taken_in_components(tmp_path: Path) -> None:
    predictions, references = write_pictures(tmp_path)
    Image.fromarray((maps()[1] > 0).T.astype(np.uint8) * 255).save(predictions / "a.png")
    evaluation = evaluate(predictions, references, instances="nucleus", metrics=["objects"], workers=1)
    (record,) = evaluation.records
    assert record.values["prediction_objects"] == 1  # 255 is a number like any other
    Image.fromarray((maps()[1] > 0).T.astype(np.uint8)).save(predictions / "a.png")
    (record,) = evaluate(predictions, references, instances="nucleus", metrics=["objects"], workers=1).records
    assert record.values["prediction_objects"] == 5
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(predictions / "a.png")
    (record,) = evaluate(predictions, references, instances="nucleus", metrics=["objects"], workers=1).records
    assert record.values["prediction_objects"] == 0 and record.values["object_ap_50"] == 0


def test_the_worst_objects_are_of_each_fate() -> None:
    objects = [
        ComparedObject(
            case_id="a", label="cell", fate=fate, reference="1", prediction="2", iou=iou, reference_voxels=n,
            prediction_voxels=0,
        )
        for fate, iou, n in (
            ("matched", 0.9, 5), ("matched", 0.6, 5), ("missed", 0, 3), ("missed", 0, 30), ("false_alarm", 0, 8),
        )
    ]  # fmt: skip
    worst = worst_objects(objects, 4)
    assert [(each.fate, each.iou, each.reference_voxels) for each in worst] == [
        ("missed", 0, 30), ("false_alarm", 0, 8), ("matched", 0.6, 5), ("missed", 0, 3),
    ]  # fmt: skip
