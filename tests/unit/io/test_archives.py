import io
import os
import stat
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from medseg.errors import Problem, SourceError, shown
from medseg.io import archives
from medseg.io.archives import contents, is_archive, is_unpacked, origin, unpacked, without_suffix

FILES = {"series1/a.txt": b"first", "series1/b": b"\0\1", "empty": b""}
KINDS = ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]
Usage = namedtuple("Usage", "total used free")


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as content:
            for name, data in files.items():
                content.writestr(name, data)
        return path
    compression = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{compression}") as content:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            content.addfile(member, io.BytesIO(data))
    return path


def write_member(path: Path, member: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as content:
        content.addfile(member)
    return path


def read_all(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_was_packed_is_there_and_known_by_its_place_in_the_archive(tmp_path: Path, kind: str) -> None:
    archive = write_archive(tmp_path / f"study.{kind}", FILES)
    folder = unpacked(archive)
    assert read_all(folder) == FILES
    inside = folder / "series1" / "a.txt"
    assert origin(inside) == archive / "series1" / "a.txt"
    assert is_unpacked(inside) and not is_unpacked(archive)
    assert str(SourceError(f"{inside}: is damaged")) == f"{archive}/series1/a.txt: is damaged"
    problem = Problem("", inside, f"{inside}: is damaged")
    assert problem.path == archive / "series1" / "a.txt" and "unpacked" not in problem.message


def test_unpacked_once_and_again_when_changed(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.zip", FILES)
    (unpacked(archive) / "mark").touch()
    assert (unpacked(archive) / "mark").exists()
    write_archive(archive, {"other": b"longer than before"})
    assert set(read_all(unpacked(archive))) == {"other"}


def test_archives_among_files_and_in_each_other(tmp_path: Path) -> None:
    inner = write_archive(tmp_path / "inner.tgz", FILES).read_bytes()
    (tmp_path / "inner.tgz").unlink()
    write_archive(tmp_path / "outer.zip", {"deep/inner.tgz": inner, "c": b"c"})
    (tmp_path / "image.nii.gz").touch()
    files, problems, notes = contents(tmp_path)
    assert not problems and not notes
    assert sorted(origin(file).relative_to(tmp_path).as_posix() for file in files) == [
        "image.nii.gz",
        "outer.zip/c",
        "outer.zip/deep/inner.tgz/empty",
        "outer.zip/deep/inner.tgz/series1/a.txt",
        "outer.zip/deep/inner.tgz/series1/b",
    ]
    assert contents(tmp_path) == (files, [], [])


def test_an_archive_of_archives_of_archives_ends(tmp_path: Path) -> None:
    data = b""
    for _ in range(6):
        data = write_archive(tmp_path / "a.zip", {"a.zip": data, "x": b"x"}).read_bytes()
    files, problems, _ = contents(tmp_path)
    assert len(files) == 3
    assert len(problems) == 1 and "too many archives" in problems[0].message


def test_an_archive_beside_its_folder_is_left_out(tmp_path: Path) -> None:
    write_archive(tmp_path / "study.tar.gz", FILES)
    (tmp_path / "study").mkdir()
    files, problems, notes = contents(tmp_path)
    assert not files and not problems
    assert "study/ lies beside it" in notes[0]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:/evil", "..\\evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "tar" and "\\" in name:
        pytest.skip("a backslash is a letter in tar")
    archive = write_archive(tmp_path / f"a.{kind}", {"good": b"", name: b"evil"})
    with pytest.raises(SourceError, match="leads out of it") as caught:
        unpacked(archive)
    assert str(archive) in str(caught.value)
    assert not list(tmp_path.parent.rglob("evil"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("thing")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(SourceError, match="a link or a device, 'thing'"):
        unpacked(write_member(tmp_path / "a.tar", member))


def test_links_in_zip_files_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as content:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        content.writestr(link, "/etc/passwd")
    with pytest.raises(SourceError, match="link"):
        unpacked(tmp_path / "a.zip")


def test_encrypted_zip(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.zip", {"x": b"x"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flags of the local header, and those of the directory
    data[data.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.zip: is encrypted; unpack it with its password"):
        unpacked(archive)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6])
def test_truncated_archives_are_problems_and_leave_nothing(tmp_path: Path, kind: str, kept: float) -> None:
    archive = write_archive(tmp_path / f"a.{kind}", {"a": os.urandom(3000), "b": os.urandom(9000)})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(kept * len(whole))])
    files, problems, _ = contents(tmp_path)
    assert not files
    message = problems[0].message
    assert f"{archive}: truncated, damaged or not an archive (" in message and "\n" not in message
    assert not archives._place(archive).exists()


def test_an_archive_damaged_inside(tmp_path: Path) -> None:
    for kind in ("zip", "tar.gz"):
        archive = write_archive(tmp_path / f"a.{kind}", {"a": os.urandom(5000)})
        data = bytearray(archive.read_bytes())
        data[2000] ^= 255
        archive.write_bytes(data)
        with pytest.raises(SourceError, match="truncated, damaged or not an archive"):
            unpacked(archive)


def test_a_tar_with_a_broken_header_is_not_taken_for_its_end(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tar", {"a": b"1" * 512, "b": b"2"})
    data = bytearray(archive.read_bytes())
    data[1024] ^= 255  # the name of b, which the checksum of its header no longer fits
    archive.write_bytes(data)
    with pytest.raises(SourceError, match="ends in the middle"):
        unpacked(archive)


@pytest.mark.parametrize("kind", KINDS)
def test_no_archive_fills_the_disk(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = write_archive(tmp_path / f"a.{kind}", {f"{i}": bytes(10**6) for i in range(5)})

    def usage(folder: Path) -> Usage:
        return Usage(10**9, 0, 3 * 10**6 - sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))

    monkeypatch.setattr(archives.shutil, "disk_usage", usage)
    with pytest.raises(SourceError, match="TMPDIR"):
        unpacked(bomb)
    assert not archives._place(bomb).exists()


def test_many_empty_files_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = write_archive(tmp_path / "a.zip", {str(i): b"" for i in range(1000)})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: Usage(10**9, 0, 10**6))
    with pytest.raises(SourceError, match="TMPDIR"):
        unpacked(bomb)


def test_paths_of_windows(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.zip", {"series?a.dcm": b"a"})
    archive.write_bytes(archive.read_bytes().replace(b"series?a.dcm", b"series\\a.dcm"))
    assert read_all(unpacked(archive)) == {"series/a.dcm": b"a"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.zip", "a"), ("a.TAR.gz", "a"), ("a.b.tgz", "a.b"), ("a.nii.gz", None), ("a.gz", None), ("zip", None)],
)
def test_what_an_archive_is(name: str, expected: str | None) -> None:
    assert is_archive(Path(name)) == (expected is not None)
    assert without_suffix(Path(name)) == Path(expected or name)


def test_the_folder_goes_with_the_process(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.zip", FILES)
    script = (
        f"from medseg.io.archives import unpacked; from pathlib import Path; print(unpacked(Path({str(archive)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    assert shown(str(folder)) == str(archive)
    assert not folder.exists()
    assert not Path(str(folder).removesuffix(str(archive))).exists()


def test_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as content:
        for data in (b"one", b"other"):
            member = tarfile.TarInfo("scan.nii")
            member.size = len(data)
            content.addfile(member, io.BytesIO(data))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as content, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile notices, too
        content.writestr("scan.nii", b"one")
        content.writestr("./scan.nii", b"other")
    for name in ("a.tar", "a.zip"):
        with pytest.raises(SourceError, match="twice"):
            unpacked(tmp_path / name)


def test_a_link_to_an_archive_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.zip").symlink_to(tmp_path / "nowhere.zip")
    (tmp_path / "b.txt").touch()
    found = contents(tmp_path)
    assert [file.name for file in found.files] == ["b.txt"]
    assert not any("defect" in problem.message for problem in found.problems)
