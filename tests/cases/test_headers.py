"""Doubtful headers: what each case of the table says is right."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from model_records import record_of

import medseg
from medseg.config import load
from medseg.errors import SourceError
from medseg.inferers.model import save_model
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.workflows.inspect import inspect
from medseg.workflows.preprocess import preprocess

ONE_WORKER = load(overrides=["preprocessing.workers=1"])


@pytest.mark.parametrize("name", ["nocode", "a5_qform_sform"])
def test_labels_get_the_headers_of_their_images_and_are_never_resampled(
    cases_that_go_wrong: Path, tmp_path: Path, name: str
) -> None:
    """What ``preprocess`` advises is what ``inspect`` does: then every voxel of the labels is where it was drawn."""
    source = tmp_path / name
    shutil.copytree(cases_that_go_wrong / "08_advice_export_like" / name, source)
    with pytest.raises(SourceError):
        preprocess(source, tmp_path / "prepared", config=ONE_WORKER)
    problems = (tmp_path / "prepared" / "problems.csv").read_text()
    assert problems.count(f"'medseg inspect {source} --fix {name}-fixed'") == 3
    assert "export" not in problems
    found = inspect(source, fix=tmp_path / "copy", workers=1)
    assert found.fixed is not None
    assert [change.path.parent.name for change in found.fixed.changes] == ["labels"] * 3
    assert preprocess(tmp_path / "copy", tmp_path / "prepared", config=ONE_WORKER).problems == ()
    for before in (source / "labels").iterdir():
        image, label = (nibabel.load(tmp_path / "copy" / folder / before.name) for folder in ("images", "labels"))
        np.testing.assert_array_equal(label.dataobj, nibabel.load(before).dataobj)
        np.testing.assert_array_equal(label.affine, image.affine)
        voxels, drawn = np.asarray(image.dataobj), np.asarray(label.dataobj)
        assert voxels[drawn == 1].mean() > 150  # the bright ball
        assert voxels[drawn == 2].mean() < 60  # the dark box


def test_all_three_commands_say_that_nothing_tells_left_from_right(
    cases_that_go_wrong: Path, tmp_path: Path, tiny_plan: Plan
) -> None:
    image = cases_that_go_wrong / "14_small" / "nocode.nii.gz"
    said = "nothing tells its left from its right"
    (finding,) = inspect(image, workers=1).findings
    assert said in finding.what
    (warning,) = preprocess(image, tmp_path / "prepared", config=ONE_WORKER).warnings
    assert said in warning.message
    record = record_of(tiny_plan, {"a": 1}, ("MR",))
    save_model(tmp_path / "model", record, build_network(1, 2, tiny_plan.architecture).state_dict())
    medseg.predict(tmp_path / "model", image, tmp_path / "masks", device="cpu", backend="torch")
    (case,) = json.loads((tmp_path / "masks" / "predictions.json").read_text())["cases"]
    assert sum(said in warning for warning in case["warnings"]) == 1
