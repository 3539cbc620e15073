"""DICOMDIR as the source, and in a folder: CDs and copies of them."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.fileset import FileSet

from medseg.dataset.layouts import find_cases
from medseg.errors import SourceError
from medseg.io.discover import image_sources
from medseg.io.read import read_volume

WriteSlices = Callable[..., list[Path]]

STORED = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


@pytest.fixture
def disc(tmp_path: Path, write_slices: WriteSlices) -> Path:
    """A CD with two series, as pydicom writes it: PT000000/ST000000/SE000000/IM000000, … without suffixes."""
    content = FileSet()
    for uid in ("1.3.1", "1.3.2"):
        for path in write_slices(tmp_path / "pacs" / uid, STORED, uids=("P1", "1.2", uid), PatientName="A",
                                 StudyDate="20200101", StudyTime="120000", StudyID="1", SeriesNumber=int(uid[-1]),
                                 AccessionNumber="1"):  # fmt: skip
            content.add(path)
    content.write(tmp_path / "disc")
    return tmp_path / "disc"


def series(found: object) -> list[int]:
    return [len(source.files) for source in found.sources]  # type: ignore[attr-defined]


def test_the_directory_names_the_files(disc: Path) -> None:
    (disc / "viewer").mkdir()
    shutil.copy(next(disc.glob("PT*/ST*/SE*/*")), disc / "viewer" / "demo.dcm")  # not listed
    found = image_sources(disc / "DICOMDIR")
    assert series(found) == [3, 3] and not found.problems
    np.testing.assert_array_equal(read_volume(found.sources[0]).array[0], np.moveaxis(STORED, 0, -1).swapaxes(0, 1))
    cases = find_cases(disc / "DICOMDIR")
    assert cases.layout == "DICOM studies" and len(cases.cases) == 2


def test_a_copy_with_other_names(disc: Path) -> None:
    for path in [*disc.glob("PT*/ST*/SE*/*")]:
        path.rename(path.with_name(f"{path.name.lower()}.dcm"))
    (disc / "PT000000").rename(disc / "pt000000")
    assert series(image_sources(disc / "DICOMDIR")) == [3, 3]


def test_missing_files_are_problems(disc: Path) -> None:
    first = sorted(disc.glob("PT*/ST*/SE*/*"))[0]
    shutil.rmtree(first.parent)
    found = image_sources(disc / "DICOMDIR")
    assert series(found) == [3]
    assert [problem.path.name for problem in found.problems] == [f"IM00000{i}" for i in range(3)]
    assert "is listed in DICOMDIR, but there is no such file" in found.problems[0].message


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(b"nothing")
    with pytest.raises(SourceError, match="truncated, damaged or not a DICOMDIR .*; give the folder that it lies in"):
        image_sources(tmp_path / "DICOMDIR")


def test_a_directory_that_was_cut_short_is_named_once(disc: Path) -> None:
    path, content, messages = disc / "DICOMDIR", (disc / "DICOMDIR").read_bytes(), []
    for length in range(400, len(content), 20):
        path.write_bytes(content[:length])
        try:
            image_sources(path)
        except SourceError as error:
            messages.append(str(error))
    assert any("DirectoryRecordSequence" in message for message in messages)
    assert all(message.count(str(path)) == 1 for message in messages)


def test_in_a_folder_and_in_an_archive_it_is_passed_over(disc: Path, tmp_path: Path) -> None:
    assert series(image_sources(disc)) == [3, 3]
    with zipfile.ZipFile(tmp_path / "disc.zip", "w") as archive:
        for path in disc.rglob("*"):
            archive.write(path, Path("CD", path.relative_to(disc)))
    found = find_cases(tmp_path / "disc.zip")
    assert len(found.cases) == 2 and not found.problems


def test_files_without_preamble(disc: Path) -> None:
    for path in disc.glob("PT*/ST*/SE*/*"):
        slice_ = dcmread(path)
        del slice_.file_meta
        slice_.save_as(path, implicit_vr=True, little_endian=True)
    assert series(image_sources(disc)) == [3, 3]
    assert series(image_sources(disc / "DICOMDIR")) == [3, 3]
