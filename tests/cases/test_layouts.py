"""Rows of the table of cases: what people mean by their folders."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.dataset.layouts import find_cases
from medseg.errors import SourceError
from medseg.workflows.evaluate import evaluate
from medseg.workflows.inspect import inspect


def test_bids(cases_that_go_wrong: Path) -> None:
    folder = cases_that_go_wrong / "bids_masks_taken_as_images"
    (case,) = find_cases(folder).cases
    assert [image.path.name for image in case.images] == ["sub-01_FLAIR.nii.gz", "sub-01_T1w.nii.gz"]
    assert case.label is not None and case.label.path.name == "sub-01_label-lesion_mask.nii.gz"
    assert not inspect(folder, workers=1).problems


def test_a_file_per_structure(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    folder = cases_that_go_wrong / "11_file_per_structure" / "ts"
    found = inspect(folder, workers=1)
    assert not found.problems and found.labels is not None
    assert found.labels.names == ["kidney_left", "liver", "spleen"]
    assert all(case.voxels and set(case.voxels) == {"kidney_left", "liver"} for case in found.cases)
    arguments = ["preprocess", str(folder), "-o", str(tmp_path / "prepared"), "--workers", "1"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "prepared" / "labels").glob("*.nii.gz"))) == 3


def test_no_group_of_all_cases(cases_that_go_wrong: Path) -> None:
    found = find_cases(cases_that_go_wrong / "one_group_of_all_cases")
    assert len({case.group or case.case_id for case in found.cases}) == len(found.cases) == 2


@pytest.mark.parametrize("name", ["patient", "capitals", "masks", "group"])
def test_columns_of_a_table(cases_that_go_wrong: Path, name: str) -> None:
    found = find_cases(cases_that_go_wrong / "07_csv_columns" / f"{name}.csv")
    assert not found.problems and len(found.cases) == (3 if name in ("capitals", "masks") else 10)
    assert all(case.label and case.group == f"p{i // 2}" for i, case in enumerate(found.cases))


@pytest.mark.parametrize(
    ("name", "words"),
    [("b16_zero_is_organ", "'background' has the value 1, and 0 is 'ball'"), ("b21", "'ignore' has the values .2, 3.")],
)
def test_dataset_json_that_cannot_be_meant(cases_that_go_wrong: Path, name: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        find_cases(cases_that_go_wrong / "12_dataset_json" / name)


def test_what_predict_writes_as_a_file_a_label_is_evaluated(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    folder = cases_that_go_wrong / "11_file_per_structure" / "ts"
    for case in find_cases(folder).cases:
        assert case.label is not None
        for source in case.label.sources:
            place = tmp_path / "masks" / case.case_id / source.path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source.path, place)
    found = evaluate(tmp_path / "masks", folder, metrics=["dice"], workers=1)
    assert not found.problems and not found.failed
    dice = {(record.case_id, record.label): record.values["dice"] for record in found.records}
    assert {label for _, label in dice} == {"kidney_left", "liver", "spleen"}
    assert {value for (_, label), value in dice.items() if label != "spleen"} == {1.0}
