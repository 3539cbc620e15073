"""Headers of NIfTI files: whole files are known by their sizes, and places are set without touching anything else."""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medseg.errors import SourceError
from medseg.io.nifti import header as nifti_header
from medseg.io.nifti.header import check_whole_nifti, read_nifti_header, write_place
from medseg.io.nifti.reader import nifti_geometry
from medseg.volume import Geometry

SHAPE = (6, 5, 4)
PLACE = Geometry(SHAPE, np.array([[-0.9, 0, 0, 10], [0, 0, -2.0, 20], [0, 0.8, 0, -30], [0, 0, 0, 1]]))


def written(path: Path, kind: Any = nibabel.Nifti1Image, order: str = "<") -> Path:
    """Scaled voxels, a comment in an extension, a description, no place."""
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    header["descrip"] = b"made for a test"
    header["pixdim"][1:4] = 0.9, 0.8, 2
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"keep me"))
    image = kind(np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16), None, header)
    image.header.set_slope_inter(0.25, -7)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_place_is_set_and_all_else_stays(tmp_path: Path, name: str, kind: Any, order: str) -> None:
    path = written(tmp_path / name, kind, order)
    before = nibabel.load(path)
    values, comment = before.get_fdata(), before.header.extensions[0].get_content()
    size = read_nifti_header(path).n_bytes
    assert not read_nifti_header(path).has_place
    write_place(path, PLACE)
    after = nibabel.load(path)
    assert type(after) is kind
    assert after.header.endianness == order
    np.testing.assert_array_equal(after.get_fdata(), values)
    assert values[1, 1, 1] == (20 + 4 + 1) * 0.25 - 7
    assert after.header.extensions[0].get_content() == comment
    assert bytes(after.header["descrip"]).startswith(b"made for a test")
    np.testing.assert_allclose(after.affine, PLACE.affine, atol=1e-6)
    np.testing.assert_allclose(after.get_qform(), PLACE.affine, atol=1e-5)
    content = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    assert len(content) == size


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000), ("micron", 0.001), ("unknown", 1)])
def test_a_place_is_set_in_the_unit_of_the_file(tmp_path: Path, unit: str, mm: float) -> None:
    path = written(tmp_path / "a.nii")
    image = nibabel.load(path)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    assert read_nifti_header(path).spacing == pytest.approx((0.9 * mm, 0.8 * mm, 2 * mm))
    write_place(path, PLACE)
    np.testing.assert_allclose(nifti_geometry(path).affine, PLACE.affine, rtol=1e-6)
    np.testing.assert_allclose(nibabel.load(path).affine[:3] * mm, PLACE.affine[:3], rtol=1e-6)
    header = read_nifti_header(path)
    assert header.sform is not None and header.qform is not None
    np.testing.assert_allclose(header.sform, header.qform, rtol=1e-5)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_whole_files_are_told_by_size_without_reading(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / name)

    def read(path: Path) -> None:
        raise SourceError(f"{path}: was read")

    monkeypatch.setattr(nifti_header, "read_nifti", read)
    check_whole_nifti(path)
    path.write_bytes(path.read_bytes() + bytes(8))  # a size that gzip cannot have noted
    if name.endswith("gz"):
        with pytest.raises(SourceError, match="was read"):
            check_whole_nifti(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_files_that_are_cut_short_are_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="truncated, damaged"):
        check_whole_nifti(path)


def test_an_analyze_file_has_no_place_to_write(tmp_path: Path) -> None:
    path = tmp_path / "scan.hdr"
    nibabel.save(nibabel.AnalyzeImage(np.zeros(SHAPE, np.int16), np.eye(4)), path)
    before = path.read_bytes()
    for change in (lambda: write_place(path, PLACE), lambda: nifti_header.copy_place(path, like=path)):
        with pytest.raises(SourceError, match="Analyze 7.5"):
            change()
    assert path.read_bytes() == before
