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

from medseg.labels import Labels
from medseg.training.journal import Journal
from medseg.training.learner import Epoch
from medseg.training.validation import Example, Validation
from medseg.volume import Geometry

LABELS = Labels.from_names({"liver [left]": 1, "tumour": 2})


def epoch(step: int) -> Epoch:
    confusion = torch.tensor([[90, 0, 0], [0, 30, 10], [0, 0, 0]])
    return Epoch(step, 0.5, 1.0, 0.01, 12.0, confusion, 2048.0)


def validation(dice: float = 0.25) -> Validation:
    label_map = np.zeros((6, 5, 4), np.uint8)
    label_map[2:4, 1:3, 2] = 2
    example = Example("a", label_map[None].astype(np.float32), label_map, 0 * label_map, Geometry((6, 5, 4), np.eye(4)))
    return Validation({"liver [left]": dice, "tumour": None}, 1.0, example)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_rows_hold_the_dice_of_patches_and_of_cases(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LABELS, 0)
    journal.add(epoch(10), 1.0, validation(), None)
    journal.close()
    (row,) = rows(tmp_path)
    assert float(row["train_dice_liver [left]"]) == pytest.approx(60 / 70, abs=1e-4)
    assert (row["train_dice_tumour"], row["val_dice_liver [left]"], row["val_dice_tumour"]) == ("", "0.25", "")


def test_going_back_drops_rows_and_says_why(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LABELS, 0)
    for step in (10, 20, 30):
        journal.add(epoch(step), 1.0, None, None)
    journal.go_back(10, "Back to step 10: the reason")
    journal.add(epoch(20), 1.0, None, None)
    journal.add(epoch(30), 1.0, None, None)
    journal.close()
    assert [(row["epoch"], row["step"], row["note"]) for row in rows(tmp_path)] == [
        ("1", "10", ""), ("2", "20", "Back to step 10: the reason"), ("3", "30", "")
    ]  # fmt: skip
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [10, 20, 30]


def test_tensorboard_gets_slices_of_image_reference_and_prediction(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LABELS, 0)
    journal.add(epoch(10), 1.0, validation(), None)
    journal.close()
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    (picture,) = events.Images("image, reference, prediction")
    assert (picture.step, picture.height, picture.width) == (10, 5, 18)
    assert events.Scalars("val_dice")[0].value == 0.25


def test_a_terminal_shows_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_terminal=True, width=90, record=True, file=(tmp_path / "out").open("w"))
    for module in ("progress", "training.live_table"):
        monkeypatch.setattr(f"medseg.{module}.console", console)
    journal = Journal(tmp_path, LABELS, 0)
    journal.add(epoch(10), 1.0, validation(0.75), 60.0)
    journal.add(epoch(20), 2.0, validation(0.5), 30.0)
    journal.add(epoch(30), 3.0, None, 6.0)
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
    fake = SimpleNamespace(
        start_run=lambda run_name: logged.append(run_name),
        log_metrics=lambda numbers, step: logged.append((numbers, step)),
        end_run=lambda: logged.append("end"),
        __spec__=SimpleNamespace(),
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Journal(tmp_path, LABELS, 0).add(epoch(10), 1.0, None, None)
    assert logged == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///nowhere")
    journal = Journal(tmp_path, LABELS, 0)
    journal.add(epoch(10), 1.0, validation(), None)
    journal.close()
    name, (numbers, step), end = logged
    assert (name, step, end) == (tmp_path.name, 10, "end")
    assert numbers["val_dice_liver _left_"] == 0.25
