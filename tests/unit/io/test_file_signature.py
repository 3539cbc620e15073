"""Files known by their first bytes."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from medseg.io.file_signature import content_mark, content_suffix

ARRAY = np.zeros((6, 5, 4), np.int16)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti(tmp_path: Path, kind: type, suffix: str) -> None:
    nibabel.save(kind(ARRAY, np.eye(4)), tmp_path / f"a{suffix}")
    path = (tmp_path / f"a{suffix}").rename(tmp_path / "anything")
    assert content_suffix(path) == suffix


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk(tmp_path: Path, suffix: str) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(ARRAY), str(tmp_path / f"a{suffix}"))
    assert content_suffix(tmp_path / f"a{suffix}") == suffix


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("TIFF", ".tif")])
def test_pictures(tmp_path: Path, kind: str, suffix: str) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a", format=kind)
    assert content_suffix(tmp_path / "a") == suffix


def test_dicom(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> None:
    (path,) = write_slices(tmp_path, ARRAY[:1], names=["a"])
    assert content_suffix(path) == ".dcm"


@pytest.mark.parametrize(
    "content",
    [b"", b"text", gzip.compress(b"text", mtime=0), gzip.compress(b"x" * 999, mtime=0)[:-9], b"\x1f\x8b?"],
    ids=["empty", "text", "gzipped text", "cut short", "damaged"],
)
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert content_suffix(tmp_path / "a") == ""


def test_copies_have_one_mark(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(random.bytes(200_000))
    (tmp_path / "c").write_bytes((tmp_path / "a").read_bytes())
    (tmp_path / "short").write_bytes(b"1")
    a, b, c = (content_mark(tmp_path / name) for name in "abc")
    assert a == c != b
    assert content_mark(tmp_path / "short")[0] == 1
