import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.errors import LabelError, OutputError, SourceError
from medseg.evaluation.evaluation import Evaluation
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import format_named
from medseg.io.nifti.writer import write_nifti
from medseg.io.picture.writer import write_image2d
from medseg.labels import Labels
from medseg.volume import Array, Geometry, Volume
from medseg.workflows.evaluate import evaluate

SHAPE = (14, 12, 10)
GRID = Geometry(SHAPE, np.array([[1.0, 0, 0, -7], [0, 2.0, 0, 11], [0, 0, 3.0, 40], [0, 0, 0, 1]]))
LABELS = Labels.from_names({"liver": 1, "tumour": 4})


def organs(shift: int = 0) -> Array:
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[2 + shift : 8 + shift, 2:8, 2:8] = 1
    label_map[4 + shift : 6 + shift, 4:6, 4:6] = 4
    return label_map


def write(path: Path, label_map: Array, grid: Geometry = GRID, orientation: str = "RAS") -> None:
    volume = Volume(label_map[None], grid).oriented_as(orientation)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, volume.label_map, volume.geometry)


def name_labels(predictions: Path) -> None:
    (predictions / "predictions.json").write_text(json.dumps({"labels": LABELS.model_dump(mode="json")}))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three cases: a perfect one, one shifted by 1 mm, one whose tumour was missed."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    for case_id, label_map in (("a", organs()), ("b", organs(1)), ("c", np.minimum(organs(), 1))):
        write(predictions / f"{case_id}.nii.gz", label_map)
        write(references / f"{case_id}.nii.gz", organs())
    name_labels(predictions)
    return predictions, references


def metrics(evaluation: Evaluation) -> dict[tuple[str, str], tuple[object, ...]]:
    names = ("dice", "iou", "hd95_mm", "surface_dice")
    return {(r.case_id, r.label): (r.status, *(r.values[name] for name in names)) for r in evaluation.records}


def test_cases_are_paired_by_name_and_measured_in_mm(folders: tuple[Path, Path]) -> None:
    evaluation = evaluate(*folders, tolerance_mm=0.5)
    found = metrics(evaluation)
    assert list(found) == [(case, label) for case in "abc" for label in ("liver", "tumour")]
    assert found["a", "liver"] == ("found", 1.0, 1.0, 0.0, 1.0)
    assert found["b", "tumour"][1:4] == (0.5, pytest.approx(1 / 3), 1.0)
    assert found["c", "tumour"] == ("missed", 0.0, 0.0, None, 0.0)
    assert evaluation.records[0].values["reference_ml"] == pytest.approx((6**3 - 8) * 6 / 1000)
    assert evaluation.problems == ()


def test_one_process_and_many_measure_the_same(folders: tuple[Path, Path]) -> None:
    assert evaluate(*folders, workers=1).records == evaluate(*folders, workers=2).records


@pytest.mark.parametrize("orientation", ["LPS", "SRA"])
def test_flipped_axes_change_no_metric(folders: tuple[Path, Path], tmp_path: Path, orientation: str) -> None:
    references = folders[1]
    expected = metrics(evaluate(*folders, workers=1))
    for case_id, label_map in (("a", organs()), ("b", organs(1)), ("c", np.minimum(organs(), 1))):
        write(tmp_path / "turned" / f"{case_id}.nii.gz", label_map, orientation=orientation)
    name_labels(tmp_path / "turned")
    evaluation = evaluate(tmp_path / "turned", references, workers=1)
    assert evaluation.problems == ()
    for key, values in metrics(evaluation).items():
        assert values == pytest.approx(expected[key])


def test_another_grid_counts_as_missed(folders: tuple[Path, Path]) -> None:
    predictions, _ = folders
    affine = GRID.affine.copy()
    affine[0, 3] += 3
    write(predictions / "b.nii.gz", organs(), Geometry(SHAPE, affine))
    evaluation = evaluate(*folders)
    found = metrics(evaluation)
    assert found["b", "liver"] == ("missed", 0.0, 0.0, None, 0.0)
    assert {found["a", "liver"][0], found["c", "liver"][0]} == {"found"}
    assert evaluation.summary.labels["liver"].metrics["dice"].n == 3
    (problem,) = evaluation.problems
    assert problem.case_id == "b"
    assert "different grids" in problem.message
    assert "3 mm apart" in problem.message
    assert problem.message.endswith("; counts as missed")
    without = evaluate(*folders, failed="left-out")
    assert {record.case_id for record in without.records} == {"a", "c"}
    assert without.problems[0].message.endswith("; left out")


def test_predictions_that_are_missing_or_damaged_count_as_missed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, references = folders
    (references / "a.nii.gz").rename(references / "z.nii.gz")
    (predictions / "predictions.json").unlink()
    damaged = predictions / "b.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:60])
    evaluation = evaluate(*folders, tmp_path / "metrics", labels=LABELS)
    found = metrics(evaluation)
    assert [(case, found[case, "tumour"][:2]) for case in "bz"] == [("b", ("missed", 0.0)), ("z", ("missed", 0.0))]
    messages = {problem.case_id: problem.message for problem in evaluation.problems}
    assert set(messages) == {"a", "b", "z"}
    assert "no reference" in messages["a"]
    assert "b.nii.gz" in messages["b"]
    assert "no prediction" in messages["z"]
    content = json.loads((tmp_path / "metrics" / "metrics.json").read_text())
    assert set(content["failed"]) == {"b", "z"}
    assert "counts as an empty one" in content["definitions"]["failed"]
    report = (tmp_path / "metrics" / "report.html").read_text()
    assert "Counted as missed" in report
    assert "The prediction counts as empty" in report
    without = evaluate(*folders, tmp_path / "without", labels=LABELS, failed="left-out")
    assert {record.case_id for record in without.records} == {"c"}
    assert "left out" in json.loads((tmp_path / "without" / "metrics.json").read_text())["definitions"]["failed"]


def test_a_reference_that_cannot_be_used_is_a_problem_and_left_out(folders: tuple[Path, Path]) -> None:
    damaged = folders[1] / "b.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:60])
    write(folders[1] / "c.nii.gz", organs() * 3)
    evaluation = evaluate(*folders)
    assert {record.case_id for record in evaluation.records} == {"a"}
    assert evaluation.failed == {}
    messages = {problem.case_id: problem.message for problem in evaluation.problems}
    assert "references/b.nii.gz" in messages["b"]
    assert "references/c.nii.gz: label values [3, 12]" in messages["c"]


def test_cases_that_were_not_to_be_predicted_are_left_out_with_a_note(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, _ = folders
    (predictions / "c.nii.gz").unlink()
    content = json.loads((predictions / "predictions.json").read_text())
    cases = [{"case_id": name, "source": "", "masks": {}} for name in "ab"]
    asked = {**content, "cases": cases}
    (predictions / "predictions.json").write_text(json.dumps(asked))
    evaluation = evaluate(*folders)
    assert {record.case_id for record in evaluation.records} == {"a", "b"}
    assert evaluation.problems == ()
    assert "were not to be predicted (predictions.json), left out: c" in capsys.readouterr().err
    (predictions / "predictions.json").write_text(json.dumps({**asked, "problems": [{"case_id": "c"}]}))
    assert metrics(evaluate(*folders))["c", "liver"][0] == "missed"
    (predictions / "predictions.json").write_text(json.dumps({**asked, "asked": ["a", "b", "c"]}))
    assert metrics(evaluate(*folders))["c", "liver"][0] == "missed"


def test_a_value_that_is_no_label_is_a_false_alarm(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write(folders[0] / "a.nii.gz", organs() * 3)
    evaluation = evaluate(*folders, tmp_path / "metrics")
    assert metrics(evaluation)["a", "liver"][:2] == ("missed", 0.0)
    assert evaluation.unknown == {"a": {3: 6**3 - 8, 12: 8}}
    assert evaluation.problems == ()
    content = json.loads((tmp_path / "metrics" / "metrics.json").read_text())
    assert content["unknown_values"] == {"a": {"3": 208, "12": 8}}
    assert "3 (208 voxels), 12 (8 voxels)" in (tmp_path / "metrics" / "report.html").read_text()


def test_labels_without_names_are_all_that_occur(folders: tuple[Path, Path]) -> None:
    (folders[0] / "predictions.json").unlink()
    evaluation = evaluate(*folders)
    assert list(evaluation.summary.labels) == ["label_1", "label_4"]
    named = evaluate(*folders, labels=LABELS)
    assert list(named.summary.labels) == ["liver", "tumour"]
    assert [r.values for r in named.records] == [r.values for r in evaluation.records]


def test_json_and_csv_hold_null_and_empty_for_what_is_not_defined(folders: tuple[Path, Path], tmp_path: Path) -> None:
    evaluate(*folders, tmp_path / "metrics")
    content = json.loads((tmp_path / "metrics" / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert content["cases"]["c"]["tumour"]["status"] == "missed"
    assert content["cases"]["c"]["tumour"]["dice"] == 0.0
    assert content["cases"]["c"]["tumour"]["hd95_mm"] is None
    tumour = content["summary"]["labels"]["tumour"]
    assert tumour["statuses"] == {"found": 2, "missed": 1, "false_alarm": 0, "absent": 0}
    assert tumour["metrics"]["dice"] == {
        "mean": 0.5, "interval": [0.0, 1.0], "median": 0.5, "quartiles": [0.25, 0.75], "n": 3
    }  # fmt: skip
    assert (tumour["metrics"]["hd95_mm"]["mean"], tumour["metrics"]["hd95_mm"]["n"]) == (0.5, 2)
    assert "missed" in content["definitions"]["empty_masks"]
    assert content["tolerance_mm"] == {"liver": 1.0, "tumour": 1.0}
    with (tmp_path / "metrics" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert (rows[5]["case_id"], rows[5]["label"], rows[5]["dice"], rows[5]["hd95_mm"]) == (
        "c",
        "tumour",
        "0.0",
        "",
    )
    assert not list((tmp_path / "metrics").glob(".*"))


def test_two_files_are_a_pair_whatever_their_names(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    evaluation = evaluate(predictions / "b.nii.gz", references / "c.nii.gz")
    assert metrics(evaluation)["b", "tumour"][1] == 0.5


def test_pictures_are_measured_in_2d(tmp_path: Path) -> None:
    for name, shift in (("predictions", 2), ("references", 0)):
        cells = np.zeros((40, 30, 1), np.uint8)
        cells[5 + shift : 20 + shift, 5:20] = 255
        (tmp_path / name).mkdir()
        write_image2d(tmp_path / name / "1.png", cells)
    (record,) = evaluate(tmp_path / "predictions", tmp_path / "references").records
    assert record.values["dice"] == pytest.approx(13 / 15)
    assert record.values["hd95_mm"] == 2.0
    assert 0.4 < (record.values["surface_dice"] or 0) < 0.8  # two of four sides, and the corners


def test_a_dataset_of_images_and_labels_is_a_reference(real_data: Path, tmp_path: Path) -> None:
    for name in ("hippocampus_001", "hippocampus_003"):
        (tmp_path / "predictions").mkdir(exist_ok=True)
        shutil.copy(real_data / "hippocampus" / "labelsTr" / f"{name}.nii.gz", tmp_path / "predictions")
    evaluation = evaluate(tmp_path / "predictions", real_data / "hippocampus", failed="left-out")
    assert list(evaluation.summary.labels) == ["Anterior", "Posterior"]
    assert [record.values["dice"] for record in evaluation.records] == [1.0] * 4
    assert len(evaluation.problems) == 206  # cases without a prediction


def test_a_prepared_folder_is_a_reference(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, references = folders
    (predictions / "predictions.json").unlink()
    cases = [
        {
            "case_id": name,
            "group": name,
            "images": [str(references / f"{name}.nii.gz")],
            "label": f"../references/{name}.nii.gz",
            "source_grid": GRID.as_json(),
        }
        for name in "abc"
    ]
    origin = {"medseg": "0.1.0", "source": "/data", "layout": "images/ and labels/"}
    content = {"format": "medseg-prepared", "channels": ["CT"], "labels": LABELS.model_dump(), "cases": cases, **origin}
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "dataset.json").write_text(json.dumps(content))
    evaluation = evaluate(predictions, tmp_path / "prepared")
    assert list(evaluation.summary.labels) == ["liver", "tumour"]
    assert metrics(evaluation)["b", "tumour"][1] == 0.5
    assert evaluation.problems == ()


def test_nothing_in_common_is_an_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write(tmp_path / "others" / "x.nii.gz", organs())
    with pytest.raises(SourceError, match="predictions are a, b, c"):
        evaluate(folders[0], tmp_path / "others")
    with pytest.raises(SourceError, match="no such"):
        evaluate(folders[0], tmp_path / "absent")


def test_only_background_is_an_error(tmp_path: Path) -> None:
    for name in ("predictions", "references"):
        write(tmp_path / name / "a.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(LabelError, match="background"):
        evaluate(tmp_path / "predictions", tmp_path / "references")


def test_an_output_that_cannot_be_written_is_told_before_the_work(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        evaluate(*folders, tmp_path / "file" / "metrics")


def test_command_shows_a_table_and_fails_on_problems(folders: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["evaluate", *map(str, folders), "-o", str(tmp_path / "metrics")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for word in ("liver", "tumour", "missed", "mean"):
        assert word in result.stdout
    (folders[1] / "a.nii.gz").unlink()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "1 file could not be evaluated" in result.output
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert content == json.loads((tmp_path / "metrics" / "metrics.json").read_text())
    assert content["problems"][0]["case_id"] == "a"


def test_only_the_named_cases_are_evaluated(folders: tuple[Path, Path], tmp_path: Path) -> None:
    command = ["evaluate", *map(str, folders), "-o", str(tmp_path / "metrics"), "--json"]
    result = CliRunner().invoke(app, [*command, "--case", "a", "--case", "c"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert list(content["cases"]) == ["a", "c"] and content["problems"] == []
    result = CliRunner().invoke(app, [*command, "--case", "b", "--case", "d"])
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert list(content["cases"]) == ["b"]
    assert [each["case_id"] for each in content["problems"]] == ["d"]
    with pytest.raises(SourceError, match="references has no case of the name d; it has a, b, c"):
        evaluate(*folders, cases=["d"])


def test_a_value_that_no_reference_has_is_told(tmp_path: Path) -> None:
    strange = organs()
    strange[0, 0, 0] = 9
    for case_id, label_map in (("a", organs()), ("b", strange)):
        write(tmp_path / "predictions" / f"{case_id}.nii.gz", label_map)
        write(tmp_path / "references" / f"{case_id}.nii.gz", organs())
    evaluation = evaluate(tmp_path / "predictions", tmp_path / "references", workers=1)
    assert list(evaluation.summary.labels) == ["label_1", "label_4"]
    assert evaluation.unknown == {"b": {9: 1}}
    assert evaluation.problems == ()
    assert len(evaluation.records) == 4


def test_the_ignore_value_of_the_references_counts_not_that_of_the_model(tmp_path: Path) -> None:
    ignored = organs()
    ignored[:5] = 9
    write(tmp_path / "masks" / "a.nii.gz", np.where(ignored == 9, 0, organs()))
    write(tmp_path / "data" / "images" / "a.nii.gz", organs())
    write(tmp_path / "data" / "labels" / "a.nii.gz", ignored)
    (tmp_path / "masks" / "predictions.json").write_text(json.dumps({"labels": LABELS.ignoring(3).model_dump()}))
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"labels": {"liver": 1, "tumour": 4, "ignore": 9}}))
    evaluation = evaluate(tmp_path / "masks", tmp_path / "data", tmp_path / "metrics", workers=1)
    assert {record.values["dice"] for record in evaluation.records} == {1.0}
    assert "has the value 9 were not annotated" in (tmp_path / "metrics" / "report.html").read_text()
    whole = evaluate(tmp_path / "masks", tmp_path / "data", ignore_value=7, workers=1)
    assert "label values [9] are not among the known" in whole.problems[0].message


def test_a_prediction_with_the_ignore_value_is_told(tmp_path: Path) -> None:
    for folder, last in (("masks", 6), ("references", 5)):
        ignored = organs()
        ignored[:last] = 9
        write(tmp_path / folder / "a.nii.gz", ignored)
    name_labels(tmp_path / "masks")
    evaluation = evaluate(tmp_path / "masks", tmp_path / "references", ignore_value=9, workers=1)
    assert evaluation.unknown == {"a": {9: SHAPE[1] * SHAPE[2]}}
    assert evaluation.records[0].values["sensitivity"] == pytest.approx(2 / 3, abs=0.1)


TUMOURS = Labels.from_names({}, {"whole / tumour": (1, 2, 4), "core": (1, 4), "enhancing": (4,)})
ORGANS = Labels.from_names({"liver": 1, "tumour / core": 4})


def nested() -> Array:
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[2:9, 2:9, 2:9], label_map[3:7, 3:7, 3:7], label_map[4:6, 4:6, 4:6] = 2, 1, 4
    return label_map


@pytest.mark.parametrize("name", ["nifti-per-label", "seg-nrrd"])
@pytest.mark.parametrize(("labels", "drawn"), [(ORGANS, organs()), (TUMOURS, nested())], ids=["labels", "regions"])
def test_structures_in_files_and_segments_of_their_own(tmp_path: Path, name: str, labels: Labels, drawn: Array) -> None:
    format_, masks = format_named(name), tmp_path / "masks"
    masks.mkdir()
    for case_id, label_map in (("a", drawn), ("b", np.roll(drawn, 1, axis=0))):
        format_.write(format_.path(masks, case_id), LabelMapVolume(label_map, GRID, labels))
        write(tmp_path / "references" / f"{case_id}.nii.gz", drawn)
        write(tmp_path / "label maps" / f"{case_id}.nii.gz", label_map)
    for folder in ("masks", "label maps"):
        (tmp_path / folder / "predictions.json").write_text(json.dumps({"labels": labels.model_dump(mode="json")}))
    found = evaluate(masks, tmp_path / "references", workers=1)
    expected = evaluate(tmp_path / "label maps", tmp_path / "references", workers=1)
    assert found.problems == expected.problems == ()
    assert found.records == expected.records
    assert len(found.summary.labels) == len(labels.structures)


def test_files_of_structures_without_predictions_json_go_by_their_names(tmp_path: Path) -> None:
    for name, value in (("Liver", 1), ("tumour", 4)):
        write(tmp_path / "masks" / "a" / f"{name}.nii.gz", (organs() == value).astype(np.uint8))
    write(tmp_path / "data" / "labelsTr" / "a.nii.gz", organs())
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "tumour": 4}}))
    evaluation = evaluate(tmp_path / "masks", tmp_path / "data" / "labelsTr", workers=1)
    assert {record.label: record.values["dice"] for record in evaluation.records} == {"liver": 1.0, "tumour": 1.0}


def test_surfaces_are_refused_by_name(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "meshes" / "a_stl").mkdir(parents=True)
    with pytest.raises(SourceError, match="surfaces cannot be compared, predict with another --format"):
        evaluate(tmp_path / "meshes", folders[1])
