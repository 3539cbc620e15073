"""Pictures are read as viewers turn them, and masks lie on them for programs that do and for those that don't."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image, ImageOps

from medseg.errors import SourceError
from medseg.io.discover import source_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import PNG, TIFF, write_mask
from medseg.io.picture.exif import as_shown, as_stored, orientation_of
from medseg.io.picture.reader import image2d_geometry, read_image2d
from medseg.io.picture.writer import write_image2d
from medseg.labels import Labels

GREY = np.arange(15, dtype=np.uint8).reshape(3, 5)
ONE_LABEL = Labels.from_values([1])


def picture(path: Path, orientation: int, pixels: np.ndarray = GREY) -> Path:
    if path.suffix == ".tif":
        tags = [(274, "H", 1, orientation, False)]  # compressed: Pillow 13 mistakes the size of other turned TIFF
        tifffile.imwrite(path, pixels, photometric="minisblack", compression="zlib", extratags=tags)
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(pixels).save(path, exif=exif)
    return path


def shown_by_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_a_picture_is_read_as_pillow_shows_it(tmp_path: Path, name: str, orientation: int) -> None:
    path = picture(tmp_path / name, orientation)
    volume = read_image2d(path)
    np.testing.assert_array_equal(volume.array[0, :, :, 0].T, shown_by_pillow(path))
    assert image2d_geometry(path).difference(volume.geometry, 0.0) is None
    stored = as_stored(volume.array, orientation)
    np.testing.assert_array_equal(as_shown(stored, orientation), volume.array)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("image", "format_"), [("a.jpg", PNG), ("a.png", PNG), ("a.tif", TIFF)])
def test_masks_are_stored_and_shown_as_their_image(
    tmp_path: Path, image: str, format_: object, orientation: int
) -> None:
    source = source_of(picture(tmp_path / image, orientation))
    geometry = image2d_geometry(source.path)
    label_map = np.zeros(geometry.shape, np.uint8)
    label_map[1, 2, 0] = 1
    written = write_mask(
        format_, format_.path(tmp_path, "mask"), LabelMapVolume(label_map, geometry, ONE_LABEL, source)
    )
    assert not written.certificate.fault
    np.testing.assert_array_equal(shown_by_pillow(written.path), label_map[:, :, 0].T)
    np.testing.assert_array_equal(read_image2d(written.path).label_map, label_map)
    assert orientation_of(written.path) == orientation
    is_tiff = written.path.suffix == ".tif"  # which SimpleITK makes colours of, once it is turned
    stored = tifffile.imread(written.path) if is_tiff else sitk.GetArrayFromImage(sitk.ReadImage(written.path))
    assert stored.shape == GREY.shape  # for programs that do not go by the tag


def test_a_mask_in_another_orientation_is_no_mask(tmp_path: Path) -> None:
    source = source_of(picture(tmp_path / "a.jpg", 3))
    geometry = image2d_geometry(source.path)
    label_map = np.eye(5, 3, dtype=np.uint8)[..., None]
    write_image2d(tmp_path / "m.png", label_map)
    certificate = PNG.check(tmp_path / "m.png", LabelMapVolume(label_map, geometry, ONE_LABEL, source))
    assert "orientation" in certificate.fault


def test_what_is_not_all_read_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "two.png", save_all=True, append_images=[Image.fromarray(GREY + 1)])
    with pytest.raises(SourceError, match="holds 2 pictures"):
        read_image2d(tmp_path / "two.png")
    tifffile.imwrite(tmp_path / "white.tif", GREY, photometric="miniswhite")
    with pytest.raises(SourceError, match="WhiteIsZero"):
        read_image2d(tmp_path / "white.tif")
    grey = bytearray((picture(tmp_path / "grey.png", 1, np.dstack([GREY, GREY]))).read_bytes())
    grey[24] = 16
    (tmp_path / "grey.png").write_bytes(grey)
    with pytest.raises(SourceError, match="half of its bits"):
        read_image2d(tmp_path / "grey.png")
    (tmp_path / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 3\n")
    with pytest.raises(SourceError, match="cannot identify"):
        read_image2d(tmp_path / "program.png")


def test_samples_that_are_no_alpha_are_channels(tmp_path: Path) -> None:
    pixels = np.stack([GREY] * 4, axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    assert len(read_image2d(tmp_path / "a.tif").array) == 4


def test_parts_of_a_tiff_that_are_not_there(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY] * 3), photometric="minisblack", metadata=None)
    whole = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        tag = tiff.pages[0].tags["StripByteCounts"]
        at = tag.valueoffset
    (tmp_path / "a.tif").write_bytes(whole[:at] + bytes(4) + whole[at + 4 :])
    with pytest.raises(SourceError, match="not there|truncated, damaged"):
        read_image2d(tmp_path / "a.tif")


def test_pages_that_only_a_description_declares(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY] * 4), photometric="minisblack")
    whole = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        at = tiff.pages[0].offset + 2 + 12 * len(tiff.pages[0].tags)  # where the next page is said to be
    whole[at : at + 4] = bytes(4)
    (tmp_path / "a.tif").write_bytes(whole)
    with pytest.raises(SourceError, match="pages"):
        read_image2d(tmp_path / "a.tif")
