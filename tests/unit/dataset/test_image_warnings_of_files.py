"""What headers of files that are not DICOM leave open is told, as a warning or a note."""

from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from medseg.dataset.image_warnings import header_warnings
from medseg.io.discover import source_of
from medseg.io.read import read_geometry


def test_what_nrrd_and_metaimage_do_not_say_is_doubted(tmp_path: Path) -> None:
    nrrd = 'NRRD0004\ntype: uint8\nencoding: raw\ndimension: 3\nsizes: 2 2 2\nunits: "um" "um" "um"\n\n'
    (tmp_path / "a.nrrd").write_bytes(nrrd.encode() + bytes(8))
    source = source_of(tmp_path / "a.nrrd")
    found = {doubt.rule: doubt.severity for doubt in header_warnings(source, read_geometry(source))}
    assert found == {"unit": "warning", "no-place": "note"}
    (tmp_path / "a.nrrd").rename(tmp_path / "a.seg.nrrd")
    source = source_of(tmp_path / "a.seg.nrrd")
    assert "no-segments" in {doubt.rule for doubt in header_warnings(source, read_geometry(source))}


def test_voxel_sizes_of_pixdim_that_itk_takes_are_doubted(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((9, 9, 9), np.uint8), np.diag([2, 2, 2, 1]))
    image.set_qform(None, 0)
    image.header["pixdim"][3] = 3
    image.header["vox_offset"] = 352
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock + bytes(4 + 729))
    source = source_of(tmp_path / "a.nii")
    (doubt,) = (each for each in header_warnings(source, read_geometry(source)) if each.rule == "two-places")
    assert "pixdim" in doubt.what


def test_a_turned_photograph_is_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    source = source_of(tmp_path / "a.jpg")
    (doubt,) = header_warnings(source, read_geometry(source))
    assert (doubt.rule, doubt.severity) == ("turned", "note")
