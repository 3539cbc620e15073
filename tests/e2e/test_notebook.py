"""The quickstart notebook: committed with its outputs, and it runs."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "quickstart.ipynb"
PICTURES = 3  # a study, the progress of training, an overlay

# What makes it fast, and worse.
SHORT = {'MAX_TIME = "90s"': 'MAX_TIME = "12s"', "n_train=8, n_test=2": "n_train=3, n_test=1"}


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def n_pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def check_outputs(notebook: Any) -> None:
    """Every cell ran, in order, without errors; pictures and metrics are there."""
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    # ignite, which MONAI imports, asks tqdm for a bar of Jupyter's, and tqdm says where there is none.
    told = [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert not [text for text in told if "IProgress not found" not in text]
    assert n_pictures(notebook) == PICTURES
    tables = [output.data["text/markdown"] for output in outputs(notebook) if "text/markdown" in output.get("data", {})]
    assert len(tables) == 1
    assert re.findall(r"^\| (\w+) \|", tables[0], re.MULTILINE) == [
        "label", "liver", "spleen", "kidney_left", "kidney_right", "spine",
    ]  # fmt: skip


def test_it_is_committed_with_outputs_that_name_no_machine() -> None:
    notebook = read()
    check_outputs(notebook)
    assert NOTEBOOK.stat().st_size < 1_000_000
    text = "".join(str({**output, "data": {k: v for k, v in output.get("data", {}).items() if k != "image/png"}})
                   for output in outputs(notebook))  # fmt: skip
    assert not re.search(r"/(home|root|tmp|work|Users|var|mnt)/|[A-Z]:\\\\", text)


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    notebook = read()
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    source = "\n".join(cell.source for cell in code_cells(notebook))
    for long, short in SHORT.items():
        assert source.count(long) == 1
        for cell in code_cells(notebook):
            cell.source = cell.source.replace(long, short)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    check_outputs(notebook)
    exported = tmp_path / "quickstart" / "export"
    assert {path.name for path in exported.iterdir()} == {"image.nii.gz", "mask.nii.gz", "labels"}
    assert len(list((exported / "labels").iterdir())) == 5
