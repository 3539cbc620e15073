import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.config import load
from medseg.dataset.layouts import find_cases
from medseg.dataset.store import PreparedDataset
from medseg.errors import ConfigError, LabelError, SourceError
from medseg.plugins import forget_plugins, register_transform
from medseg.preparation import checked_case
from medseg.table import read_table
from medseg.workflows import preprocess as workflow

WriteImage = Callable[..., Path]


@pytest.fixture
def objects(tmp_path: Path, write_image: WriteImage) -> Path:
    """Two cases whose label maps number 40 objects, as those of cells do."""
    label_map = np.zeros((20, 20, 8), np.uint8)
    label_map[::4, ::5, ::4] = np.arange(1, 41).reshape(5, 4, 2)
    for name in "ab":
        write_image(tmp_path / "cells" / "images" / f"{name}.nii.gz", label_map * 2.0)
        write_image(tmp_path / "cells" / "labels" / f"{name}.nii.gz", label_map)
    return tmp_path / "cells"


def test_numbered_objects_are_warned_of_and_the_next_command_can_be_copied(objects: Path, tmp_path: Path) -> None:
    arguments = ["preprocess", str(objects), "-o", str(tmp_path / "my data"), "--workers", "1"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "1000"}, catch_exceptions=False)
    assert done.exit_code == 0
    assert "40 different values" in done.stderr and "say --instances" in done.stderr
    assert f"next: medseg train '{tmp_path / 'my data'}' -o run" in done.stderr


@pytest.mark.slow
def test_an_interrupted_preparation_leaves_no_dataset_of_two_plans(
    objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    folder = workflow.preprocess(objects, tmp_path / "prepared").folder
    assert len(PreparedDataset(folder).cases) == 2
    monkeypatch.setattr(workflow, "store_cases", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workflow.preprocess(objects, folder)
    with pytest.raises(SourceError, match="no prepared dataset"):
        PreparedDataset(folder)


def test_long_names_are_shown_whole(tmp_path: Path, write_image: WriteImage) -> None:
    name = "patient_with_a_long_name_" * 3
    write_image(tmp_path / "scans" / f"{name}.nii.gz", np.ones((4, 4, 4)))
    done = CliRunner().invoke(app, ["preprocess", str(tmp_path / "scans"), "-o", str(tmp_path / "prepared")])
    assert done.exit_code == 0
    assert "…" not in done.stdout


@pytest.fixture
def scans(tmp_path: Path, write_image: WriteImage) -> Path:
    """Two cases with the labels 1 and 2, and half of the voxels with the value 255."""
    label_map = np.full((12, 12, 8), 255, np.uint8)
    label_map[:6] = 0
    label_map[1:5, 2:8, 2:6], label_map[2:4, 9:11, 2:4] = 1, 2
    for name in "ab":
        write_image(tmp_path / "scans" / "images" / f"{name}.nii.gz", label_map.astype(float))
        write_image(tmp_path / "scans" / "labels" / f"{name}.nii.gz", label_map)
    return tmp_path / "scans"


def test_the_ignore_value_is_a_setting(scans: Path, tmp_path: Path) -> None:
    config = load(overrides=["preprocessing.ignore_value=255", "preprocessing.workers=1"])
    result = workflow.preprocess(scans, tmp_path / "prepared", config=config)
    assert result.record.labels is not None
    assert (result.record.labels.values, result.record.labels.ignore) == ([1, 2], 255)
    assert [case.annotated_part for case in result.record.cases] == [0.5, 0.5]


def test_an_ignore_value_that_is_a_label_is_refused(scans: Path, tmp_path: Path) -> None:
    (scans / "dataset.json").write_text(json.dumps({"labels": {"liver": 1, "spleen": 2, "air": 255}}))
    config = load(overrides=["preprocessing.ignore_value=255"])
    with pytest.raises(LabelError, match="the ignore value cannot be 255: that is 'air'"):
        workflow.preprocess(scans, tmp_path / "prepared", config=config)


def test_a_case_without_any_annotation_is_left_out(scans: Path, tmp_path: Path, write_image: WriteImage) -> None:
    write_image(scans / "labels" / "b.nii.gz", np.full((12, 12, 8), 255, np.uint8))
    config = load(overrides=["preprocessing.ignore_value=255", "preprocessing.workers=1"])
    result = workflow.preprocess(scans, tmp_path / "prepared", config=config)
    assert [case.case_id for case in result.record.cases] == ["a"]
    assert "no voxel is annotated" in result.problems[0].message


def test_a_table_says_which_labels_were_annotated(scans: Path, tmp_path: Path) -> None:
    rows = ["case_id,image,label,annotated", *(f"{n},images/{n}.nii.gz,labels/{n}.nii.gz," for n in "ab")]
    rows[1] += "liver"
    rows.append("c,images/a.nii.gz,labels/a.nii.gz,liver; spleen")
    rows.append("d,images/a.nii.gz,labels/a.nii.gz,liver|splen")
    (scans / "cases.csv").write_text("\n".join(rows))
    (scans / "dataset.json").write_text(json.dumps({"labels": {"liver": 1, "spleen": 2, "ignore": 255}}))
    config = load(overrides=["preprocessing.workers=1"])
    result = workflow.preprocess(scans, tmp_path / "prepared", config=config)
    annotated = {case.case_id: case.annotated for case in result.record.cases}
    assert annotated == {"a": ("liver",), "b": None, "c": ("liver", "spleen")}
    (problem,) = result.problems
    assert problem.case_id == "d"
    assert "'splen' was annotated, but is no label; did you mean 'spleen'" in problem.message
    dataset = PreparedDataset(tmp_path / "prepared")
    assert set(np.unique(dataset.label_map("a"))) == {0, 1, 255}
    assert set(np.unique(dataset.label_map("b"))) == {0, 1, 2, 255}
    again = {case.case_id: case.annotated for case in find_cases(tmp_path / "prepared").cases}
    assert again == annotated


def test_the_prepared_folder_is_the_same_to_the_byte_whatever_the_workers(blobs: Path, tmp_path: Path) -> None:
    contents = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        workflow.preprocess(blobs, folder, config=load(overrides=[f"preprocessing.workers={workers}"]))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        contents.append({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 4 + 4 * 6


def test_a_defect_is_told_from_a_fault_of_the_data(
    objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("w2 should be positive")

    monkeypatch.setattr(checked_case, "measure", broken)
    with pytest.raises(SourceError, match="no case is left"):
        workflow.preprocess(objects, tmp_path / "out", config=load(overrides=["preprocessing.workers=1"]))
    problems = read_table(tmp_path / "out" / "problems.csv", "")
    assert [row["case_id"] for row in problems] == ["a", "b"]
    assert "a defect of medseg, not of your data (ZeroDivisionError: w2 should be positive" in problems[0]["problem"]


PLUGIN = """
from medseg.plugins import register_transform

@register_transform("set-to")
def set_to(keys, value=3.0):
    if value < 0:
        raise RuntimeError("no such value")
    return lambda data: data | {key: data[key] * 0 + value for key in keys}
"""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_transforms_of_a_plugin_in_all_workers(blobs: Path, tmp_path: Path, workers: int) -> None:
    plugin = tmp_path / "lab.py"
    plugin.write_text(PLUGIN)
    setting = "preprocessing.transforms=[{name: set-to, keys: [image], value: 5}]"
    arguments = ["preprocess", str(blobs), "-o", str(tmp_path / "out"), "--set", setting, "--workers", str(workers)]
    try:
        done = CliRunner().invoke(app, [*arguments, "--plugin", str(plugin)])
        assert done.exit_code == 0, done.output
        dataset = PreparedDataset(tmp_path / "out")
        assert len(dataset) > 1
        for case_id in dataset.case_ids:
            assert set(np.unique(dataset.image(case_id))) == {5}
    finally:
        forget_plugins()
    arguments[3] = str(tmp_path / "other")
    error = CliRunner().invoke(app, arguments).exception  # at once, and not case by case
    assert isinstance(error, ConfigError) and "no transform 'set-to'" in str(error) and "--plugin" in str(error)
    assert not (tmp_path / "other").exists()


def test_transforms_of_a_script_are_known_to_itself_only(blobs: Path, tmp_path: Path) -> None:
    """So the cases are prepared in this process."""
    register_transform("of-a-script")(lambda keys: lambda data: data | {key: data[key] * 0 + 7 for key in keys})
    try:
        settings = ["preprocessing.transforms=[{name: of-a-script, keys: [image]}]", "preprocessing.workers=2"]
        result = workflow.preprocess(blobs, tmp_path / "out", config=load(overrides=settings))
    finally:
        forget_plugins()
    assert not result.problems
    dataset = PreparedDataset(tmp_path / "out")
    assert all(set(np.unique(dataset.image(case_id))) == {7} for case_id in dataset.case_ids)
