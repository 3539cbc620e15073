import os
from pathlib import Path

import pytest

from medseg.errors import OutputError
from medseg.files import (
    ensure_folder,
    folder_written_whole,
    is_temporary,
    remove_leftovers,
    write_text,
    written_whole,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), written_whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_write_that_is_cut_short_asks_for_the_disk(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a\.npy: .*32000 requested and 24448 written; is the disk full\?"),
        written_whole(tmp_path / "a.npy"),
    ):
        raise OSError("32000 requested and 24448 written")


def test_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with written_whole(tmp_path / "x.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.touch()
    assert (tmp_path / "x.nii.gz").exists()


@pytest.mark.parametrize("name", ["x.nii.gz", ".medseg-unfinished", "a name of many letters" * 9 + ".csv", "\n"])
def test_temporary_names_are_known(tmp_path: Path, name: str) -> None:
    with written_whole(tmp_path / name) as temporary:
        assert is_temporary(temporary)
        temporary.touch()
    assert not is_temporary(tmp_path / name)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OutputError, match=str(file)):
        ensure_folder(file / "below")
    with pytest.raises(OutputError, match="choose another"):
        write_text(file / "below.txt", "x")


def test_the_longest_name_that_a_file_system_holds(tmp_path: Path) -> None:
    """The temporary one beside it is longer by a few bytes."""
    path = tmp_path / f"{'脾' * 82}.nii.gz"
    with written_whole(path) as temporary:
        temporary.touch()
        assert temporary.name.endswith(".nii.gz")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def written(folder: Path, name: str) -> None:
    """A folder with one file of that name, in place of what is there."""
    with folder_written_whole(folder, replaces=True) as whole:
        write_text(whole / name, name)


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for name in ("first", "second"):
        written(tmp_path / "model", name)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["model", "model/second"]
    with pytest.raises(OutputError), folder_written_whole(tmp_path / "model") as whole:
        write_text(whole / "third", "")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["second"]


def test_a_folder_takes_the_place_of_a_file_or_a_link(tmp_path: Path) -> None:
    written(tmp_path / "elsewhere", "theirs")
    write_text(tmp_path / "file", "")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        written(tmp_path / name, "own")
        assert [path.name for path in (tmp_path / name).iterdir()] == ["own"]
    assert (tmp_path / "elsewhere" / "theirs").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "file", "link"}


def test_where_a_folder_cannot_be_renamed_the_older_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "model", "first")
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if (path / "second").exists():
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="No space left on device"):
        written(tmp_path / "model", "second")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["model", "model/first"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_where_a_signal_comes_between_two_renames_the_older_folder_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    written(tmp_path / "model", "first")
    rename = Path.rename

    def stopped(path: Path, target: Path) -> Path:
        if (path / "second").exists():
            raise stop
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(stop):
        written(tmp_path / "model", "second")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["model", "model/first"]


def test_an_older_folder_that_cannot_come_back_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "model", "first")
    rename = Path.rename

    def away_only(path: Path, target: Path) -> Path:
        if target.name == "model":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", away_only)
    with pytest.raises(OutputError, match="Input/output error"):
        written(tmp_path / "model", "second")
    (left,) = tmp_path.iterdir()
    assert is_temporary(left) and (left / "first").is_file()


def test_at_no_moment_a_part_of_a_folder_bears_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of which some folds are gone would load as an ensemble of the others."""
    written(tmp_path / "model", "first")
    monkeypatch.setattr("medseg.files.shutil.rmtree", lambda path, **_: removed.append(path))
    removed: list[Path] = []
    written(tmp_path / "model", "second")
    assert len(removed) and all(map(is_temporary, removed))


def test_leftovers_of_killed_calls_go_once_they_are_old(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".a.0123abcd.nii.gz", ".b.0123abcd.nii.gz", ".hidden.nii.gz"))
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == [new, other]
