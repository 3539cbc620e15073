import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.errors import SourceError
from medseg.report.plots import plot_progress

COLUMNS = [
    "epoch",
    "step",
    "seconds",
    "learning_rate",
    "train_loss",
    "val_dice",
    "val_dice_liver",
    "val_dice_tumour",
]


def write_log(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def colours(path: Path) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {tuple(int(c) for c in colour) for colour in np.unique(pixels, axis=0)}


def test_curves_are_drawn_where_rows_have_values(tmp_path: Path) -> None:
    rows: list[list[object]] = []
    for epoch in range(1, 6):
        validated = [0.1 * epoch, 0.2 * epoch, ""] if epoch % 2 else ["", "", ""]
        rows.append([epoch, 10 * epoch, epoch, 0.01, 1 / epoch, *validated])
    output = plot_progress(write_log(tmp_path / "log.csv", rows), tmp_path / "out" / "progress.png")
    found = colours(output)
    assert (0x1F, 0x4E, 0x79) in found  # training loss
    assert (0x1F, 0x77, 0xB4) in found  # the first label
    assert (0xFF, 0x7F, 0x0E) not in found  # the second has no value in any row
    assert not list(output.parent.glob(".*"))


def test_a_run_that_was_never_validated_has_a_picture(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", [[1, 1, 1, 0.1, 2.0, "", "", ""]])
    assert (0x1F, 0x4E, 0x79) in colours(plot_progress(log, tmp_path / "progress.png"))


@pytest.mark.parametrize("content", [None, "", "epoch,train_loss\n", "a,b\n1,2\n"])
def test_what_is_no_log_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SourceError, match=r"log\.csv"):
        plot_progress(path, tmp_path / "progress.png")
