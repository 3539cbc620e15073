import csv
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medseg.config import TrainingConfig
from medseg.labels import Labels
from medseg.process_group import ProcessGroup
from medseg.report.curves import training_curves
from medseg.training.callback import Restart
from medseg.training.callbacks import Journal, LiveTable, MLflow, TensorBoard
from medseg.training.epoch import Epoch
from medseg.training.state import TrainingState
from medseg.training.validation import Example, ValidationResult
from medseg.volume import Geometry

LABELS = Labels.from_names({"liver [left]": 1, "tumour": 2})


def epoch(step: int, validation: ValidationResult | None = None) -> Epoch:
    confusion = torch.tensor([[90, 0, 0], [0, 30, 10], [0, 0, 0]])
    return Epoch(step, 0.5, 1.0, 0.01, 12.0, confusion, 2048.0, validation)


def validation(dice: float = 0.25) -> ValidationResult:
    label_map = np.zeros((6, 5, 4), np.uint8)
    label_map[2:4, 1:3, 2] = 2
    example = Example("a", label_map[None].astype(np.float32), label_map, 0 * label_map, Geometry((6, 5, 4), np.eye(4)))
    return ValidationResult({"liver [left]": dice, "tumour": None}, 1.0, example)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


class Telling:
    """What a run tells of its epochs, without training."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder, LABELS)
        self.table = LiveTable(self.journal)
        self.events = TensorBoard(folder / "events", LABELS)
        self.journal.open(0)
        self.events.open(None)

    def add(self, epoch: Epoch, time_left: float | None = None) -> None:
        self.journal.add(epoch, 1.0, time_left)
        self.events.add(epoch)
        if time_left is not None:
            self.table.show(self.journal.rows[-1], time_left)

    def go_back(self, step: int, note: str) -> None:
        trainer: Any = SimpleNamespace(state=TrainingState(step=step))
        for callback in (self.journal, self.events):
            callback.on_restart(trainer, Restart(note))

    def close(self) -> None:
        for callback in (self.journal, self.table, self.events):
            callback.close()


def test_rows_hold_the_dice_of_patches_and_of_cases(tmp_path: Path) -> None:
    journal = Telling(tmp_path)
    journal.add(epoch(10, validation()))
    journal.close()
    (row,) = rows(tmp_path)
    assert float(row["train_dice_liver [left]"]) == pytest.approx(60 / 70, abs=1e-4)
    assert (row["train_dice_tumour"], row["val_dice_liver [left]"], row["val_dice_tumour"]) == ("", "0.25", "")


def test_going_back_drops_rows_and_says_why(tmp_path: Path) -> None:
    journal = Telling(tmp_path)
    for step in (10, 20, 30):
        journal.add(epoch(step))
    journal.go_back(10, "Back to step 10: the reason")
    journal.add(epoch(20))
    journal.add(epoch(30))
    journal.close()
    assert [(row["epoch"], row["step"], row["note"]) for row in rows(tmp_path)] == [
        ("1", "10", ""), ("2", "20", "Back to step 10: the reason"), ("3", "30", "")
    ]  # fmt: skip
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [10, 20, 30]


def test_tensorboard_gets_slices_of_image_reference_and_prediction(tmp_path: Path) -> None:
    journal = Telling(tmp_path)
    journal.add(epoch(10, validation()))
    journal.close()
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    (picture,) = events.Images("image, reference, prediction")
    assert (picture.step, picture.height, picture.width) == (10, 5, 18)
    assert events.Scalars("val_dice")[0].value == 0.25


def test_a_terminal_shows_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_terminal=True, width=90, record=True, file=(tmp_path / "out").open("w"))
    for module in ("progress", "training.callbacks.live_table"):
        monkeypatch.setattr(f"medseg.{module}.console", console)
    journal = Telling(tmp_path)
    journal.add(epoch(10, validation(0.75)), 60.0)
    journal.add(epoch(20, validation(0.5)), 30.0)
    journal.add(epoch(30), 6.0)
    journal.close()
    lines = console.export_text().splitlines()
    last = max(i for i, line in enumerate(lines) if "epoch 3, step 30, 0.1 min left" in line)
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines[last:] if "│" in line]
    assert table == [
        ["liver [left]", "0.857", "0.500", "0.750"],
        ["tumour", "–", "–", "–"],
        ["mean", "", "0.500", "0.750"],
    ]
    assert any("Loss 0.500" in line for line in lines)
    assert any("12.0 samples/s, 2.0 GB" in line for line in lines)


def test_mlflow_gets_the_numbers_where_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    run = SimpleNamespace(info=SimpleNamespace(run_id="a1"))
    fake = SimpleNamespace(
        set_tracking_uri=lambda uri: None,
        start_run=lambda **given: logged.append(given.get("run_name") or given["run_id"]) or run,
        log_params=lambda given: None,
        log_metrics=lambda numbers, step: logged.append((numbers, step)),
        end_run=logged.append,
        __spec__=SimpleNamespace(),
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert not MLflow.is_wanted()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///nowhere")
    assert MLflow.is_wanted()
    state = TrainingState()
    for finished in (False, None, True):  # a training that is interrupted, its resumption, which fails, and another
        callback = MLflow(tmp_path.name, unions=LABELS.unions)
        callback.on_epoch_end(stub(state), epoch(10, validation()))
        if finished is not None:
            callback.on_fit_end(stub(state, finished))
        callback.close()
    name, (numbers, step), end, again, _, failed, _, _, finished_at_last = logged
    assert (name, step, end, again) == (tmp_path.name, 10, "KILLED", "a1")
    assert (failed, finished_at_last) == ("FAILED", "FINISHED")
    assert numbers["val_dice_liver _left_"] == 0.25


def stub(state: TrainingState, finished: bool = True) -> Any:
    """A trainer as far as MLflow looks at it."""
    return SimpleNamespace(state=state, processes=ProcessGroup(), settings=TrainingConfig(), finished=finished)


def test_mlflow_writes_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    state = TrainingState()
    for step in (10, 20):
        callback = MLflow("liver", experiment="medseg", unions=LABELS.unions)
        callback.on_epoch_end(stub(state), epoch(step, validation()))
        callback.close()
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("medseg").experiment_id])
    assert (run.info.run_name, run.data.params["optimizer"]) == ("liver", "muon")
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train_loss")] == [10, 20]
    assert run.data.metrics["val_dice_liver _left_"] == 0.25


def test_another_metric_stands_beside_dice(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LABELS, "lesion_f1")
    journal.open(0)
    measured = ValidationResult(
        {"liver [left]": 0.5, "tumour": 0.7}, 1.0, None, "lesion_f1", {"liver [left]": None, "tumour": 0.25}
    )
    assert (measured.mean_dice, measured.score) == (pytest.approx(0.6), 0.25)
    journal.add(epoch(10, measured), 1.0, None)
    row = rows(tmp_path)[0]
    assert (row["val_dice"], row["val_lesion_f1"], row["val_lesion_f1_tumour"]) == ("0.6", "0.25", "0.25")
    assert row["val_lesion_f1_liver [left]"] == ""
    titles = [drawing.title for drawing in training_curves(tmp_path / "log.csv", LABELS)]
    assert "Validation lesion F1" in titles
