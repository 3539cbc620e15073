from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.errors import SourceError
from medseg.io.discover import image_sources, source_of
from medseg.io.read import read_geometry, read_volume

WriteSlices = Callable[..., list[Path]]
WriteImage = Callable[..., Path]

STORED = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


@pytest.fixture
def mixed(tmp_path: Path, write_slices: WriteSlices, write_image: WriteImage) -> Path:
    """A folder with everything in it."""
    write_slices(tmp_path / "study" / "ct", STORED)
    write_image(tmp_path / "volumes" / "a.nii.gz", STORED)
    write_image(tmp_path / "volumes" / "b.nii", STORED)
    Image.fromarray(STORED[0].astype(np.uint8)).save(tmp_path / "slide.PNG")
    for name in (".hidden.nii.gz", "notes.txt", "volumes/._a.nii.gz"):
        (tmp_path / name).write_bytes(b"none of ours")
    write_image(tmp_path / ".trash" / "c.nii")
    write_image(tmp_path / "__MACOSX" / "d.nii")
    return tmp_path


def test_all_images_under_a_folder(mixed: Path) -> None:
    sources, problems, notes, _ = image_sources(mixed)
    assert [(source.kind, source.path.relative_to(mixed).as_posix()) for source in sources] == [
        ("image2d", "slide.PNG"),
        ("dicom", "study/ct"),
        ("nifti", "volumes/a.nii.gz"),
        ("nifti", "volumes/b.nii"),
    ]
    assert not problems and not notes
    for source in sources:
        assert read_volume(source).geometry.difference(read_geometry(source), 0.0) is None


def test_compressed_files_are_not_opened_in_the_search(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"not gzip")
    assert len(image_sources(tmp_path).sources) == 1


@pytest.mark.parametrize(
    "path", ["volumes/a.nii.gz", "volumes/b.nii", "slide.PNG", "study", "study/ct", "study/ct/001.dcm"]
)
def test_paths_that_name_one_image(mixed: Path, path: str) -> None:
    for given in (mixed / path, str(mixed / path)):
        volume = read_volume(given)
        assert volume.array.shape == (1, *read_geometry(given).shape)
    expected = {"slide.PNG": (5, 4, 1), "study": (5, 4, 3), "volumes": (3, 4, 5)}[Path(path).parts[0]]
    assert volume.geometry.shape == expected


def test_pictures_beside_a_series_do_not_matter(mixed: Path) -> None:
    Image.fromarray(STORED[0].astype(np.uint8)).save(mixed / "study" / "preview.png")
    assert source_of(mixed / "study").kind == "dicom"


def test_links_are_followed_once(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "store" / "a.nii")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data", target_is_directory=True)
    assert [source.path for source in image_sources(tmp_path / "data").sources] == [
        tmp_path / "data" / "linked" / "a.nii"
    ]


def test_several_series_are_listed(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path / "one", STORED, SeriesDescription="thin")
    write_slices(tmp_path / "two", STORED, SeriesDescription="thick")
    with pytest.raises(SourceError, match=r"2 images.*one \(CT 'thin', 3 slices.*two \(CT 'thick'"):
        read_volume(tmp_path)


def test_a_folder_without_images_says_why(tmp_path: Path, write_slices: WriteSlices) -> None:
    with pytest.raises(SourceError, match="no image found"):
        read_volume(tmp_path)
    with pytest.raises(SourceError, match="no such file"):
        read_volume(tmp_path / "nothing")
    write_slices(tmp_path, STORED[:1], Modality="RTSTRUCT")
    with pytest.raises(SourceError, match="RTSTRUCT"):
        read_volume(tmp_path)
    (tmp_path / "text.dcm").write_text("text")
    with pytest.raises(SourceError, match="not a DICOM file"):
        read_volume(tmp_path / "text.dcm")
