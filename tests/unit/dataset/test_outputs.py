"""What medseg wrote below a source is no source: masks, runs and prepared datasets."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medseg.config import load
from medseg.dataset.layouts import find_cases
from medseg.workflows.preprocess import preprocess

WriteImage = Callable[..., Path]


def dataset(folder: Path, write_image: WriteImage) -> None:
    label_map = np.zeros((4, 3, 2), np.uint8)
    label_map[1:3, 1, :] = 1
    for name in "ab":
        write_image(folder / f"{name}.nii.gz", np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32))
        write_image(folder / f"{name}_seg.nii.gz", label_map)


def test_a_second_search_finds_the_same(tmp_path: Path, write_image: WriteImage) -> None:
    dataset(tmp_path, write_image)
    before = find_cases(tmp_path)
    preprocess(tmp_path, tmp_path / "prepared", config=load(overrides=["preprocessing.workers=1"]))
    write_image(tmp_path / "masks" / "a.nii.gz")
    (tmp_path / "masks" / "predictions.json").write_text(json.dumps({"medseg": "0.1"}))
    write_image(tmp_path / "run" / "validation" / "a.nii.gz")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"plan": {}}))
    after = find_cases(tmp_path)
    assert [case.case_id for case in after.cases] == [case.case_id for case in before.cases] == ["a", "b"]
    assert after.notes == tuple(
        f"left out, since medseg wrote it: {tmp_path / name}" for name in ("masks", "prepared", "run")
    )
    # Given themselves, they are sources.
    assert find_cases(tmp_path / "prepared").layout.startswith("prepared by medseg")
    assert [case.case_id for case in find_cases(tmp_path / "masks").cases] == ["a"]


def test_datasets_of_others_are_searched(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "x" / "a.nii.gz")
    (tmp_path / "x" / "dataset.json").write_text(json.dumps({"labels": {}}))
    (tmp_path / "x" / "predictions.json").write_text("[")
    assert [case.case_id for case in find_cases(tmp_path).cases] == ["x_a"]
