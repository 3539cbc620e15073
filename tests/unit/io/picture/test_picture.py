from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from medseg.errors import LabelError, OutputError, SourceError
from medseg.io.picture.reader import image2d_geometry, read_image2d
from medseg.io.picture.writer import write_image2d

ROWS, COLUMNS = 3, 5
GREY = np.arange(ROWS * COLUMNS, dtype=np.uint8).reshape(ROWS, COLUMNS)
COLOUR = np.stack([GREY, GREY + 50, GREY + 100], axis=-1)


def assert_reads(path: Path, channels: list[np.ndarray], dtype: type) -> None:
    """``channels``: (row, column) each."""
    volume = read_image2d(path)
    assert volume.array.dtype == dtype
    assert volume.array.shape == (len(channels), COLUMNS, ROWS, 1)
    for read, expected in zip(volume.array, channels, strict=True):
        np.testing.assert_array_equal(read[:, :, 0].T, expected)
    np.testing.assert_array_equal(volume.geometry.affine, np.eye(4))
    assert image2d_geometry(path).difference(volume.geometry, 0.0) is None


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.TIFF"])
def test_grey(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / name)
    assert_reads(tmp_path / name, [GREY], np.uint8)


@pytest.mark.parametrize("colours", ["grey", "full", "halved"])
def test_damaged_jpeg_is_read_as_another_program_reads_it_or_refused(tmp_path: Path, colours: str) -> None:
    random, path, n_read = np.random.default_rng(0), tmp_path / "a.jpg", 0
    pixels = random.integers(0, 256, (40, 48) if colours == "grey" else (40, 48, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=90, subsampling=2 if colours == "halved" else 0)
    content = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(content)
        damaged[int(random.integers(len(content) // 2, len(content)))] = int(random.integers(256))
        path.write_bytes(damaged)
        try:
            ours = read_image2d(path).array[..., 0].T
        except SourceError:
            continue
        n_read += 1
        theirs = sitk.GetArrayFromImage(sitk.ReadImage(path)).reshape(ours.shape)
        if colours == "halved":  # of which the colours are filled up in several ways
            is_inside = ((theirs > 0) & (theirs < 255)).all(axis=-1)
            ours, theirs = (each[is_inside] @ (0.299, 0.587, 0.114) for each in (ours, theirs))
            ours, theirs = ours // 40, theirs // 40
        np.testing.assert_allclose(ours, theirs, atol=3)
    assert n_read < 60


def test_jpeg(tmp_path: Path) -> None:
    Image.fromarray(np.full((ROWS, COLUMNS), 77, np.uint8)).save(tmp_path / "a.jpg")
    assert_reads(tmp_path / "a.jpg", [np.full((ROWS, COLUMNS), 77)], np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 4000).save(tmp_path / name)
    assert_reads(tmp_path / name, [GREY.astype(np.uint16) * 4000], np.uint16)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colour(tmp_path: Path, name: str) -> None:
    Image.fromarray(COLOUR).save(tmp_path / name)
    assert_reads(tmp_path / name, [GREY, GREY + 50, GREY + 100], np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_alpha_is_dropped(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.dstack([COLOUR, GREY])).save(tmp_path / name)
    assert_reads(tmp_path / name, [GREY, GREY + 50, GREY + 100], np.uint8)
    Image.fromarray(np.dstack([GREY, COLOUR[..., 1]]), mode="LA").save(tmp_path / name)
    assert_reads(tmp_path / name, [GREY], np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_black_and_white(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY % 3 == 0).save(tmp_path / name)
    assert_reads(tmp_path / name, [GREY % 3 == 0], np.uint8)


def test_a_colour_palette_holds_labels_and_a_grey_one_values(tmp_path: Path) -> None:
    labels = Image.fromarray(GREY % 3).convert("P")
    labels.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    labels.save(tmp_path / "labels.png")
    assert_reads(tmp_path / "labels.png", [GREY % 3], np.uint8)
    grey = Image.fromarray(GREY % 3).convert("P")
    grey.putpalette([0, 0, 0, 128, 128, 128, 255, 255, 255])
    grey.save(tmp_path / "grey.png")
    assert_reads(tmp_path / "grey.png", [np.array([0, 128, 255])[GREY % 3]], np.uint8)


def test_floats(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY / np.float32(7))
    assert_reads(tmp_path / "a.tif", [GREY / np.float32(7)], np.float32)


def test_pages_are_z(tmp_path: Path) -> None:
    stack = np.arange(4 * ROWS * COLUMNS, dtype=np.uint16).reshape(4, ROWS, COLUMNS)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    volume = read_image2d(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.array[0], stack.T)
    assert image2d_geometry(tmp_path / "a.tif").shape == (COLUMNS, ROWS, 4)


def test_pages_of_colour(tmp_path: Path) -> None:
    stack = np.stack([COLOUR, COLOUR + 1])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb")
    volume = read_image2d(tmp_path / "a.tif")
    assert volume.array.shape == (3, COLUMNS, ROWS, 2)
    np.testing.assert_array_equal(volume.array[1, :, :, 1].T, stack[1, :, :, 1])
    assert image2d_geometry(tmp_path / "a.tif").shape == (COLUMNS, ROWS, 2)


def test_channels_of_a_microscope(tmp_path: Path) -> None:
    stack = np.arange(4 * 2 * ROWS * COLUMNS, dtype=np.uint16).reshape(4, 2, ROWS, COLUMNS)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    volume = read_image2d(tmp_path / "a.tif")
    assert volume.array.shape == (2, COLUMNS, ROWS, 4)
    np.testing.assert_array_equal(volume.array[1, :, :, 3].T, stack[3, 1])


def test_what_cannot_be_read_exactly_is_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as writer:
        writer.write(GREY)
        writer.write(GREY[:2])
    with pytest.raises(SourceError, match="different sizes"):
        read_image2d(tmp_path / "sizes.tif")
    tifffile.imwrite(tmp_path / "time.tif", np.zeros((2, 3, 4, 5), np.uint8), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(SourceError, match="TZYX"):
        read_image2d(tmp_path / "time.tif")


def test_colour_png_of_16_bits_is_refused(tmp_path: Path) -> None:
    png = bytearray()
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    png += (tmp_path / "a.png").read_bytes()
    png[24] = 16
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(SourceError, match="16-bit colour PNG"):
        read_image2d(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7])
def test_damaged_files_are_named(tmp_path: Path, name: str, kept: float) -> None:
    values = np.random.default_rng(0).integers(0, 256, (60, 60)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(SourceError) as caught:
        read_image2d(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_compressed_tiff_without_its_decoder_names_the_package(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.tif", compression="tiff_lzw")
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        with pytest.raises(SourceError, match="pip install imagecodecs"):
            read_image2d(tmp_path / "a.tif")
    else:
        assert_reads(tmp_path / "a.tif", [GREY], np.uint8)


@pytest.mark.parametrize(
    ("name", "highest", "dtype"),
    [("m.png", 255, np.uint8), ("m.png", 256, np.uint16), ("m.tif", 300, np.uint16)],
)
def test_masks_are_written_as_wide_and_high_as_the_image(tmp_path: Path, name: str, highest: int, dtype: type) -> None:
    label_map = (GREY.T.astype(np.int32) * 300 % (highest + 1))[:, :, None]
    label_map[0, 0, 0] = highest
    write_image2d(tmp_path / name, label_map)
    with Image.open(tmp_path / name) as image:
        assert image.size == (COLUMNS, ROWS)
    volume = read_image2d(tmp_path / name)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.label_map, label_map)
    if name.endswith(".tif"):  # without an axis of pages, as in the image
        assert tifffile.imread(tmp_path / name).shape == (ROWS, COLUMNS)


def test_stacks_are_written_as_pages(tmp_path: Path) -> None:
    label_map = np.random.default_rng(0).integers(0, 9, (COLUMNS, ROWS, 3)).astype(np.uint8)
    write_image2d(tmp_path / "m.tif", label_map)
    np.testing.assert_array_equal(read_image2d(tmp_path / "m.tif").label_map, label_map)
    with pytest.raises(OutputError, match="3"):
        write_image2d(tmp_path / "m.png", label_map)


def test_labels_that_a_picture_cannot_hold(tmp_path: Path) -> None:
    for value in (-1, 65536):
        with pytest.raises(LabelError, match=str(value)):
            write_image2d(tmp_path / "m.png", np.full((2, 2, 1), value))
    with pytest.raises(OutputError, match="lose values"):
        write_image2d(tmp_path / "m.jpg", np.zeros((2, 2, 1), np.uint8))


def test_real_pictures_equal_pillow(real_data: Path) -> None:
    for folder in ("images", "labels"):
        path = real_data / "membrane" / folder / "0.png"
        with Image.open(path) as image:
            expected = np.asarray(image)
        volume = read_image2d(path)
        assert volume.geometry.shape == (512, 512, 1)
        np.testing.assert_array_equal(volume.array[0, :, :, 0].T, expected)
    stack = read_image2d(real_data / "nuclei" / "img3d.tif")
    np.testing.assert_array_equal(stack.array[0].T, tifffile.imread(real_data / "nuclei" / "img3d.tif"))


def test_tiff_whose_samples_may_lie_in_two_ways_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOUR, photometric="rgb")
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].tags["PlanarConfiguration"].valueoffset
    content = bytearray(path.read_bytes())
    content[at] = 0
    path.write_bytes(content)
    with pytest.raises(SourceError, match="its PlanarConfiguration is 0"):
        read_image2d(path)


def test_tiff_with_a_tag_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([GREY, GREY]), photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[1].aspage().tags["SamplesPerPixel"].offset
    content = bytearray(path.read_bytes())
    content[at + 2 : at + 4] = b"\x9c\x75"  # a type that there is not
    path.write_bytes(content)
    with pytest.raises(SourceError, match="its SamplesPerPixel cannot be read"):
        read_image2d(path)
