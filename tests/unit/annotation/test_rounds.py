"""What a round of training does, without training: its commands, and what is made of their results."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="medseg[serve] is not installed")

from medseg.annotation.folder import AnnotatedFolder
from medseg.annotation.learning_curve import LearningCurve
from medseg.annotation.rounds import Rounds
from medseg.dataset.annotations import Authorship
from medseg.dataset.layouts import find_cases
from medseg.device import choose_device
from medseg.errors import MedsegError
from medseg.evaluation.metrics_json import LabelEntry, MetricsRecord, write_metrics
from medseg.evaluation.predictions_json import PredictedCase, Predictions, write_predictions
from medseg.io import Geometry, write_nifti
from medseg.serve.background_training import TrainingTask
from medseg.serve.datastore import Datastore

GRID = Geometry((6, 5, 4), np.diag([-1.0, -1.0, 2.0, 1.0]))


@pytest.fixture
def folder(tmp_path: Path) -> AnnotatedFolder:
    """Ten cases, eight of them drawn, one of the drawn ones held back."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for number in range(10):
        write_nifti(scans / f"ct_{number}.nii.gz", np.arange(120, dtype=np.int16).reshape(GRID.shape) + number, GRID)
    annotated = AnnotatedFolder(Datastore(scans), part=0.1)
    for name in ("organ", "lesion"):
        annotated.add_label(name)
    (held,) = annotated.held_back
    others = [case_id for case_id in annotated.datastore.cases if case_id != held]
    for case_id in [held, *others[:7]]:
        annotated.save(case_id, np.ones(GRID.shape, np.uint8), Authorship("Ada", "annotate"))
    return annotated


def rounds_of(folder: AnnotatedFolder, models: dict[str, Any] | None = None) -> Rounds:
    return Rounds(folder, {} if models is None else models, choose_device("cpu"), ("--network", "unet"))


def cases_in(table: Path) -> list[str]:
    with table.open() as file:
        return [row["case_id"] for row in csv.DictReader(file)]


def test_held_back_cases_are_measured_and_never_trained(folder: AnnotatedFolder) -> None:
    rounds, held = rounds_of(folder), folder.held_back[0]
    task = TrainingTask("one", "trained-here", folder.runs / "one", "5m")
    commands = list(rounds.commands(task))
    assert [command[0] for command in commands] == ["preprocess", "train", "predict", "evaluate", "predict"]
    preprocess, train, measured, _, asked = commands
    training = find_cases(Path(preprocess[1]))
    assert len(training.cases) == 7
    assert held not in {case.case_id for case in training.cases}
    assert training.labels is not None
    assert training.labels.names == ["organ", "lesion"]
    assert all(case.label is not None for case in training.cases)
    assert "--init" not in train
    assert train[-2:] == ["--network", "unet"]
    assert cases_in(Path(measured[2]) / "cases.csv") == [held]
    unknown = cases_in(Path(asked[2]) / "cases.csv")
    assert len(unknown) == 2
    assert not set(unknown) & set(folder.annotated)


def test_a_round_adds_a_point_and_tells_what_the_network_doubts(folder: AnnotatedFolder) -> None:
    models: dict[str, Any] = {}
    rounds, held = rounds_of(folder, models), folder.held_back[0]
    task = TrainingTask("one", "trained-here", folder.runs / "one", "5m")
    *_, asked = rounds.commands(task)
    unknown = cases_in(Path(asked[2]) / "cases.csv")
    entries = {name: LabelEntry(status="found", dice=dice) for name, dice in (("organ", 0.9), ("lesion", 0.5))}
    metrics = MetricsRecord(
        predictions="p", references="r", rename={}, grid_tolerance=0.05, labels=folder.labels, cases={held: entries}
    )
    (task.folder / "metrics").mkdir()
    write_metrics(task.folder / "metrics", metrics)
    found = [PredictedCase(case_id=unknown[0], source="x", masks={}, expected_dice={"organ": 0.8, "lesion": 0.6})]
    found.append(PredictedCase(case_id=unknown[1], source="y", masks={}, expected_dice={"organ": 0.9}))
    (task.folder / "not_drawn_masks").mkdir()
    write_predictions(task.folder / "not_drawn_masks", Predictions(labels=folder.labels, cases=tuple(found)))
    trained: list[Path] = []
    models["trained-here"] = type("Model", (), {"replace": lambda self, run: trained.append(run)})()
    rounds.take(task)
    assert trained == [task.folder / "run"]
    (point,) = LearningCurve.read(folder.runs).points
    assert (point.cases, point.held_back, point.dice) == (7, 1, pytest.approx(0.7))
    doubt = {unknown[0]: pytest.approx(0.3), unknown[1]: pytest.approx(0.55)}  # what is not found counts as 0
    assert rounds.doubt() == doubt
    assert rounds_of(folder).doubt() == doubt  # a new server knows it too
    assert "0.700" in task.lines[-1]


def test_too_few_cases_and_a_damaged_curve_are_told(tmp_path: Path, folder: AnnotatedFolder) -> None:
    (tmp_path / "few").mkdir()
    write_nifti(tmp_path / "few" / "ct.nii.gz", np.zeros(GRID.shape, np.int16), GRID)
    with pytest.raises(MedsegError, match="annotated"):
        rounds_of(AnnotatedFolder(Datastore(tmp_path / "few"))).start("model")
    folder.runs.mkdir()
    (folder.runs / "learning_curve.json").write_text("{")
    with pytest.raises(MedsegError, match="learning_curve"):
        rounds_of(folder)
