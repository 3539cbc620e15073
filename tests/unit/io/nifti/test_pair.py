"""Analyze 7.5 and NIfTI in two files are read as nibabel reads them, and found as one image each."""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.analyze import AnalyzeImage

from medseg.errors import SourceError
from medseg.io.discover import image_sources, source_of
from medseg.io.nifti.header import check_whole_nifti, read_nifti_header
from medseg.io.read import read_geometry, read_volume

ARRAY = np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3)
AFFINE = np.array([[-0.9, 0, 0, 10], [0, 0.8, 0, 20], [0, 0, 2.0, -30], [0, 0, 0, 1]])
KINDS = (AnalyzeImage, nibabel.Spm99AnalyzeImage, nibabel.Spm2AnalyzeImage, nibabel.Nifti1Pair, nibabel.Nifti2Pair)


def write(path: Path, kind: Any = nibabel.Nifti1Pair, array: np.ndarray = ARRAY, order: str = "<") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    nibabel.save(kind(array, AFFINE, header), path)
    return path


def compress(path: Path) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [(), (".img",), (".hdr", ".img")])
def test_pairs_are_one_image(tmp_path: Path, kind: Any, order: str, compressed: tuple[str, ...]) -> None:
    path = write(tmp_path / "scan.hdr", kind, order=order)
    expected = nibabel.load(path).affine
    for suffix in compressed:
        compress(tmp_path / f"scan{suffix}")
    (source,) = image_sources(tmp_path).sources
    assert source.kind == "pair" and len(source.files) == 2
    volume = read_volume(source)
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array[0], ARRAY)
    np.testing.assert_allclose(volume.geometry.affine, expected, atol=1e-6)
    assert read_geometry(source).difference(volume.geometry, 0.0) is None
    assert source_of(source.files[1]) == source_of(source.path) == source
    header = read_nifti_header(source.path)
    assert header.is_analyze != header.has_place
    check_whole_nifti(source.path)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_lacks_voxels_is_named(tmp_path: Path, compressed: bool) -> None:
    path = write(tmp_path / "scan.hdr")
    voxels = tmp_path / "scan.img"
    voxels.write_bytes(voxels.read_bytes()[:-7])
    if compressed:
        compress(voxels)
    with pytest.raises(SourceError, match=r"scan.*truncated, damaged"):
        check_whole_nifti(path)
    with pytest.raises(SourceError, match=r"scan.*truncated, damaged"):
        read_volume(path)
    for file in tmp_path.glob("scan.img*"):
        file.unlink()
    (source,) = image_sources(tmp_path).sources
    with pytest.raises(SourceError, match=r"scan\.hdr: has no voxels beside it"):
        read_volume(source)


def test_other_headers_of_that_name_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "landsat.hdr").write_text("ENVI\nsamples = 5\nlines = 4\n")
    (tmp_path / "landsat.img").write_bytes(bytes(40))
    assert image_sources(tmp_path).sources == ()
