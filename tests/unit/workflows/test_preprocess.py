from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.dataset.store import PreparedDataset
from medseg.errors import SourceError
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
    assert "40 different values" in done.stderr and "write 1 for all objects" in done.stderr
    assert f"next: medseg train '{tmp_path / 'my data'}' -o run" in done.stderr


def test_an_interrupted_preparation_leaves_no_dataset_of_two_plans(
    objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    folder = workflow.preprocess(objects, tmp_path / "prepared").folder
    assert len(PreparedDataset(folder).cases) == 2
    monkeypatch.setattr(workflow, "_store", interrupted)
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
