import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from model_records import record_of

from medseg.labels import Labels
from medseg.plan import Plan
from medseg.report.curves import training_curves
from medseg.report.patches import patch_pictures
from medseg.report.provenance import record_facts
from medseg.report.training import write_training
from medseg.workflows.evaluate import evaluate

LABELS = Labels.from_names({"shell": 2, "core": 5})
LOG = """epoch,step,seconds,learning_rate,train_loss,val_dice,val_dice_shell,val_dice_core
1,10,6,0.01,1.5,,,
2,20,12,0.008,1.1,0.4,0.5,0.3
3,30,18,0.004,0.9,0.6,0.7,0.5
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def test_curves_have_a_point_for_each_value(log: Path) -> None:
    loss, dice, rate = training_curves(log, LABELS)
    assert [curve.name for curve in dice.curves] == ["mean", "shell", "core"]
    assert [len(curve.points.split()) for curve in (*loss.curves, *dice.curves, *rate.curves)] == [3, 2, 2, 2, 3]
    assert [text for _, text in loss.across.ticks] == ["1", "2", "3"]
    assert loss.across == dice.across


def patches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    for spatial in ((12, 10, 8), (12, 10)):
        label_maps = np.zeros((2, 1, *spatial), np.uint8)
        label_maps[:, :, 3:6, 2:9, ...] = 1
        yield random.normal(size=(2, 1, *spatial)).astype(np.float32), label_maps


@pytest.mark.parametrize(("images", "label_maps"), patches(), ids=["3d", "2d"])
def test_patches_are_drawn_in_mm(images: np.ndarray, label_maps: np.ndarray) -> None:
    first, _ = patch_pictures(images, label_maps, ["a", "b"], [2.0, 1.0, 3.0], LABELS)
    assert (first.width_mm, first.height_mm) == (24, 10)
    (outline,) = first.outlines
    assert outline.label == "shell"
    numbers = np.array(re.findall(r"[\d.]+", outline.path), float).reshape(-1, 2)
    # Turned around, so that the patient's right is on the left: columns 3 to 6 of 12 are 6 to 9 from there.
    assert numbers.min(axis=0).tolist() == [12, 1]
    assert numbers.max(axis=0).tolist() == [18, 8]


def test_the_report_of_a_run(blobs: Path, log: Path) -> None:
    run = log.parent
    evaluation = evaluate(blobs / "labels", blobs, run / "validation", metrics=["dice"], workers=1)
    images, label_maps = next(patches())
    pictures = list(patch_pictures(images, label_maps, ["a", "b"], [1.0, 1.0, 1.0], LABELS))
    page = write_training(run, evaluation.masks.labels, evaluation, pictures).read_text()
    assert "<b>3</b>epochs" in page
    assert "best validation Dice, epoch 3" in page
    assert page.count("data:image/png") == 2
    assert 'href="validation/report.html"' in page
    assert "<script" not in page


def test_provenance_is_told_in_words(tiny_plan: Plan) -> None:
    """Without what is empty, and without Python's brackets."""
    entries = {"training_cases": 3, "init": None, "watchdog": ["less rate", "more foreground"]}
    record = record_of(tiny_plan, LABELS, ("CT",), medseg="0.1", provenance=entries)
    assert dict(record_facts(record))["trained"] == "training cases 3, watchdog less rate; more foreground"
