"""The corrected copy: complete, apart from the source, which stays as it is."""

import csv
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.errors import OutputError
from medseg.workflows import inspect as workflow


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def spoilt(study: Any, affine: np.ndarray, shape: Any) -> Any:
    """Two good cases, one on a rounded grid, one with a stray value, and a file that is no image."""
    study.add("a")
    study.add("b", label_affine=affine @ np.diag([0.98 / 0.9766, 0.98 / 0.9766, 1, 1]))
    drawn = np.zeros(shape, np.uint8)
    drawn[4:20, 4:16, 3:10] = 255
    for name in "ab":
        study.add(name, label_map=drawn, label_affine=affine if name == "a" else affine @ np.diag([1.003, 1.003, 1, 1]))
    spoilt = drawn.copy()
    spoilt[0, 0, :3] = 254
    study.add("c", label_map=spoilt)
    (study.folder / "notes.txt").write_text("as they were")
    return study


def test_all_is_copied_and_the_source_unchanged(spoilt: Any, look: Any, tmp_path: Path) -> None:
    before = hashes(spoilt.folder)
    found = look(spoilt.folder, fix=tmp_path / "new/copy", html=tmp_path / "report.html")
    assert hashes(spoilt.folder) == before
    after = hashes(tmp_path / "new/copy")
    assert after.keys() - before.keys() == {"changes.csv"}
    assert {name for name in before if after[name] != before[name]} == {"labels/b.nii.gz", "labels/c.nii.gz"}
    assert found.fixed.left == ()


def test_changes_are_listed(spoilt: Any, look: Any, tmp_path: Path) -> None:
    look(spoilt.folder, fix=tmp_path / "copy")
    with (tmp_path / "copy/changes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["what"]) for row in rows] == [
        ("labels/b.nii.gz", "place, as of images/b.nii.gz"),
        ("labels/c.nii.gz", "values of 3 voxels"),
    ]
    assert (rows[1]["before"], rows[1]["after"]) == ("254", "255")
    assert rows[0]["after"].startswith("[-0.9766 0 0 110.3]")


def test_the_content_of_an_archive_is_copied(spoilt: Any, look: Any, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "study"), "zip", spoilt.folder))
    before = archive.read_bytes()
    found = look(archive, fix=tmp_path / "copy")
    assert archive.read_bytes() == before
    assert len(found.fixed.changes) == 2
    assert hashes(tmp_path / "copy").keys() - hashes(spoilt.folder).keys() == {"changes.csv"}


def test_a_single_file_is_copied(spoilt: Any, look: Any, tmp_path: Path) -> None:
    look(spoilt.image("a"), fix=tmp_path / "copy")
    assert sorted(hashes(tmp_path / "copy")) == ["a.nii.gz", "changes.csv"]


def test_what_a_table_lists_is_copied_with_it(spoilt: Any, look: Any, tmp_path: Path) -> None:
    table = spoilt.folder / "table.csv"
    table.write_text("image,label\nimages/a.nii.gz,labels/a.nii.gz\nimages/b.nii.gz,labels/b.nii.gz\n")
    found = look(table, fix=tmp_path / "copy")
    assert [change.path.name for change in found.fixed.changes] == ["b.nii.gz"]
    assert found.fixed.left == ()
    assert len(look(tmp_path / "copy/table.csv").cases) == 2


@pytest.mark.parametrize("place", ["", "copy", ".."])
def test_the_copy_has_to_lie_apart(spoilt: Any, look: Any, place: str) -> None:
    before = hashes(spoilt.folder)
    with pytest.raises(OutputError, match="has to lie apart"):
        look(spoilt.folder, fix=spoilt.folder / place)
    assert hashes(spoilt.folder) == before


def test_a_copy_that_was_killed_is_begun_anew(
    spoilt: Any, look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(spoilt.folder, fix=tmp_path / "whole")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(workflow, "write_changes", killed)
        look(spoilt.folder, fix=tmp_path / "copy")
    assert not (tmp_path / "copy/changes.csv").exists()
    found = look(spoilt.folder, fix=tmp_path / "copy")
    assert len(found.fixed.changes) == 2
    assert hashes(tmp_path / "copy") == hashes(tmp_path / "whole")
    with pytest.raises(OutputError, match="not empty"):
        look(spoilt.folder, fix=tmp_path / "copy")


def test_a_folder_with_something_in_it_is_refused(spoilt: Any, look: Any, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/mine").touch()
    with pytest.raises(OutputError, match="not empty"):
        look(spoilt.folder, fix=tmp_path / "copy")


@pytest.mark.skipif(os.name == "nt", reason="names of files are text on Windows")
def test_names_that_are_no_text_go_everywhere(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a")
    odd = os.fsdecode(b"Gr\xf6\xdfe.nii.gz")  # Latin-1, as old archives have it
    study.image("a").rename(study.folder / odd)
    shutil.rmtree(study.folder / "images")
    shutil.rmtree(study.folder / "labels")
    found = look(study.folder, fix=tmp_path / "copy", html=tmp_path / "report.html")
    assert found.findings == ()
    assert (tmp_path / "copy" / odd).is_file()
    assert "Gr\\udcf6\\udcdfe.nii.gz" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_copy_that_was_killed_before_its_first_file_begins_anew(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (".probe-0123abcd", ".medseg-unfinished.0123abcd"):
        (copy / name).touch()
    look(study.folder, fix=copy)
    assert (copy / "changes.csv").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/.hidden").touch()
    with pytest.raises(OutputError, match="is not empty"):
        look(study.folder, fix=tmp_path / "other")
