"""TIFF through tifffile: one picture, or pages that are the slices of a stack."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from medseg.errors import SourceError
from medseg.io.declared_size import check_declared_size, memory_of_machine
from medseg.io.picture.exif import ORIENTATION, TURNS, UPRIGHT, as_shown
from medseg.volume import Array, Shape3

if TYPE_CHECKING:  # takes long to import, and most images are no TIFF
    from tifffile import TiffFile, TiffPage, TiffPageSeries

TIFF_SUFFIXES = (".tif", ".tiff")

NOT_COMPRESSED = 1
# What says how pixels are stored: ImageWidth to PhotometricInterpretation, FillOrder, StripOffsets, SamplesPerPixel to
# StripByteCounts, PlanarConfiguration, Predictor, tiles, ExtraSamples, SampleFormat.
OF_PIXELS = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339}
# Of what tifffile decodes, LZW makes the most of a byte.
MOST_DECODED = 2000
# That a sample takes at once in work: as it is read, and two times as float32.
SAMPLE_BYTES = 12
ALPHA = (1, 2)  # ExtraSamples that say how opaque a pixel is; others are channels


def read_tiff(path: Path) -> Array:
    """Reads a TIFF, turned as viewers show it; alpha is dropped.

    Returns:
        ``(channel, x, y, z)``.

    Raises:
        SourceError: It holds what is not read: pages of several sizes, more than one stack, an unknown compression.
        ValueError: It is damaged. What tifffile raises comes as it is.
    """
    from tifffile import TiffFile

    with TiffFile(path) as tiff:
        series = only_series(path, tiff)
        array: Array = _decoded(path, series)
        axes = series.axes
        extra = series.keyframe.extrasamples
        orientation = orientation_of_series(series)
    channel = _channel_axis(axes)
    if channel is None:
        array, axes, channel = array[None], f"C{axes}", 0
    depth = [i for i, axis in enumerate(axes) if axis not in "YX" and i != channel]
    array = array.transpose(channel, axes.index("X"), axes.index("Y"), *depth)
    array = array.reshape(*array.shape[:3], -1)
    has_alpha = bool(extra) and extra[-1] in ALPHA and len(array) in (2, 4)
    return as_shown(array[:-1] if has_alpha else array, orientation)


def tiff_shape(path: Path) -> Shape3:
    """Returns how many voxels a TIFF has along x, y, z, without reading them.

    Raises:
        SourceError: It holds what is not read.
        ValueError: It is damaged. What tifffile raises comes as it is.
    """
    from tifffile import TiffFile

    with TiffFile(path) as tiff:
        series = only_series(path, tiff)
        sizes = dict(zip(series.axes, series.shape, strict=True))
        channel = _channel_axis(series.axes)
        n_channels = 1 if channel is None else series.shape[channel]
        x, y = sizes["X"], sizes["Y"]
        z = int(np.prod(series.shape)) // (x * y * n_channels)
        swapped, _ = TURNS.get(orientation_of_series(series), (False, ()))
    return (y, x, z) if swapped else (x, y, z)


def only_series(path: Path, tiff: "TiffFile", *, whole: bool = True) -> "TiffPageSeries":
    """Returns what is read of a TIFF.

    Args:
        path: The file.
        tiff: The same, opened.
        whole: Whether all of it will be in memory.

    Raises:
        SourceError: It holds what is not read, or more than fits in memory.
        ValueError: It is damaged.
    """
    from tifffile import PHOTOMETRIC

    series: TiffPageSeries = tiff.series[0]
    if len(tiff.series) > 1:
        shapes = ", ".join(str(each.shape) for each in tiff.series)
        raise SourceError(f"{path}: pages of different sizes ({shapes}); split them into files")
    if sum(axis not in "YXSC" and n > 1 for axis, n in zip(series.axes, series.shape, strict=True)) > 1:
        raise SourceError(f"{path}: axes {series.axes} {series.shape}; split it into files with one stack each")
    if series.keyframe.photometric == PHOTOMETRIC.MINISWHITE:
        raise SourceError(
            f"{path}: counts from white to black (WhiteIsZero), which programs read either way; save it as BlackIsZero"
        )
    if len(series.pages) < len(tiff.pages):
        raise ValueError(f"{len(tiff.pages)} pages are there, and {len(series.pages)} of them make an image")
    if series.size != series.keyframe.size * len(series.pages) and not tiff.is_imagej:  # which lists one page of many
        raise ValueError(f"pixels {series.shape} are declared, and {len(series.pages)} pages for them are there")
    size = path.stat().st_size
    for page in series.pages:
        if page is not None:
            _check_whole(page.aspage(), series.keyframe, size)
    ratio = 1 if series.keyframe.compression == NOT_COMPRESSED else MOST_DECODED
    check_declared_size(int(series.nbytes), size, ratio=ratio, in_memory=False)
    if whole and series.size * SAMPLE_BYTES > memory_of_machine():
        needed, there = (n / 2**30 for n in (series.size * SAMPLE_BYTES, memory_of_machine()))
        raise SourceError(
            f"{path}: {'×'.join(map(str, series.shape))} samples take some {needed:.0f} GB in work, and this machine "
            f"has {there:.0f}; cut it with 'medseg tile', predict the tiles, and put their masks together with 'medseg "
            "join-tiles'"
        )
    _check_with_pillow(path, tiff, series)
    return series


def _check_whole(page: "TiffPage", keyframe: "TiffPage", size: int) -> None:
    """Checks what tifffile does not.

    It makes zeros of what is not there, passes over tags that it cannot read, and takes all pages to be stored as the
    first one is.
    """
    from tifffile import PLANARCONFIG, TIFF

    lost = (OF_PIXELS & set(_listed_tags(page))) - {tag.code for tag in page.tags}
    if lost:
        raise ValueError(f"its {TIFF.TAGS.get(min(lost), default=f'tag {min(lost)}')} cannot be read")
    if page.samplesperpixel > 1 and page.planarconfig not in tuple(PLANARCONFIG):
        raise ValueError(
            f"its PlanarConfiguration is {int(page.planarconfig)}, so that its samples may lie in two ways"
        )
    if page.hash != keyframe.hash:
        raise ValueError("its pages are stored in different ways")
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(parts) < int(np.prod(page.chunked)) or not all(at > 0 and n > 0 and at + n <= size for at, n in parts):
        raise ValueError("parts of its pixels are not there")
    if page.compression == NOT_COMPRESSED and page.is_tiled and page.dtype is not None:
        tile = int(np.prod(page.chunks)) * page.bitspersample // 8
        if any(n < tile for _, n in parts):
            raise ValueError("parts of its pixels are not there")


def _listed_tags(page: "TiffPage") -> list[int]:
    """Returns the codes of a page's tags, those that cannot be read among them."""
    form, stream = page.parent.tiff, page.parent.filehandle
    stream.seek(page.offset)
    (n_tags,) = struct.unpack(form.tagnoformat, stream.read(form.tagnosize))
    entries = stream.read(n_tags * form.tagsize)
    return [code for code, *_ in struct.iter_unpack(f"{form.byteorder}H{form.tagsize - 2}s", entries)]


def _check_with_pillow(path: Path, tiff: "TiffFile", series: "TiffPageSeries") -> None:
    """Checks that Pillow sees as many pages, and as many pixels in them."""
    try:
        with Image.open(path, formats=("TIFF",)) as image:
            seen = (getattr(image, "n_frames", 1), *sorted(image.size))
    except Exception:  # it knows fewer kinds of TIFF
        return
    keyframe = series.keyframe
    expected = (len(tiff.pages), *sorted((keyframe.imagewidth, keyframe.imagelength)))
    if seen != expected:
        raise ValueError(f"tifffile sees {expected} pages and pixels, Pillow {seen}")


def _decoded(path: Path, series: "TiffPageSeries") -> Array:
    try:
        array: Array = series.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise SourceError(f"{path}: is compressed ({error}); pip install imagecodecs") from error
    return array


def orientation_of_series(series: "TiffPageSeries") -> int:
    """Returns the orientation in which a TIFF is stored, as EXIF counts them."""
    tag = series.keyframe.tags.get(ORIENTATION)
    return UPRIGHT if tag is None else int(tag.value)


def _channel_axis(axes: str) -> int | None:
    """Returns the axis of channels: S are samples of a colour pixel, C the channels of a microscope."""
    for name in "SC":
        if name in axes:
            return axes.index(name)
    return None
