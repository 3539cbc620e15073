"""2D images: PNG, JPEG and BMP through Pillow, TIFF through tifffile.

A picture has no place in a patient: its affine is the identity, with x along the columns and y down the rows.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tifffile import TiffFile, TiffFileError, TiffPageSeries, imwrite

from medseg.errors import LabelError, OutputError, SourceError
from medseg.files import written_whole
from medseg.volume import Array, Geometry, Shape3, Volume

TIFF_SUFFIXES = (".tif", ".tiff")
ALPHA = {
    "LA": "L",
    "La": "L",
    "RGBA": "RGB",
    "RGBa": "RGB",
    "RGBX": "RGB",
    "PA": "P",
}  # Pillow mode without it
EXACT_MODES = ("1", "L", "P", "RGB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
DAMAGED = (OSError, ValueError, SyntaxError, IndexError, KeyError, UnidentifiedImageError, TiffFileError)


def read_image2d(path: Path) -> Volume:
    """Reads a picture as ``(channel, x = column, y = row, z)`` with exact values.

    Grey is one channel, colour three; alpha is dropped. A colour palette is read as its indices (it marks
    labels), a grey one as grey values, black and white as 0 and 1. The pages of a TIFF are z. Raises
    ``SourceError``.
    """
    try:
        array = _read_tiff(path) if path.suffix.lower() in TIFF_SUFFIXES else _read_picture(path)
    except DAMAGED as error:
        raise _unreadable(path, error) from error
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise SourceError(f"{path}: pixels of type {array.dtype} cannot be read; store integers or floats")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    x, y, z = array.shape[1:]
    return Volume(array, Geometry((x, y, z), np.eye(4)))


def read_pictures(paths: Sequence[Path]) -> Volume:
    """Reads pictures as the slices of one volume, ``(channel, x = column, y = row, z)``. Raises ``SourceError``, also
    where they are of several sizes."""
    arrays = [read_image2d(path).array for path in paths]
    odd = next((i for i, array in enumerate(arrays) if array.shape != (*arrays[0].shape[:3], 1)), None)
    if odd is not None:
        raise SourceError(f"{paths[odd]}: is of another size, or has other channels, than {paths[0].name}")
    array = np.concatenate(arrays, axis=-1)
    x, y, z = array.shape[1:]
    return Volume(array, Geometry((x, y, z), np.eye(4)))


def image2d_geometry(path: Path) -> Geometry:
    """The grid of a picture, without reading its pixels. Raises ``SourceError``."""
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            with TiffFile(path) as tiff:
                shape = _tiff_shape(path, tiff)
        else:
            with Image.open(path) as image:
                shape = (image.width, image.height, 1)
    except DAMAGED as error:
        raise _unreadable(path, error) from error
    return Geometry(shape, np.eye(4))


def write_image2d(path: Path, label_map: Array) -> None:
    """Writes a label map (x, y, 1) as PNG, or (x, y, z) as the pages of a TIFF, in 8 or 16 bits.

    Raises ``LabelError`` for values that don't fit into 16 bits, ``OutputError`` when the file cannot be
    written.
    """
    lowest, highest = (int(label_map.min()), int(label_map.max())) if label_map.size else (0, 0)
    if lowest < 0 or highest > 65535:
        raise LabelError(f"{path}: a picture holds labels from 0 to 65535, not {lowest} to {highest}; use NIfTI")
    pages = label_map.T.astype(np.uint8 if highest < 256 else np.uint16)
    is_tiff = path.suffix.lower() in TIFF_SUFFIXES
    if not is_tiff and path.suffix.lower() != ".png":
        raise OutputError(f"{path}: label maps are written as .png or .tif (others lose values)")
    if not is_tiff and len(pages) != 1:
        raise OutputError(f"{path}: a PNG holds one slice, not {len(pages)}; use .tif or .nii.gz")
    with written_whole(path) as temporary:
        if is_tiff:
            imwrite(temporary, pages if len(pages) > 1 else pages[0], photometric="minisblack", compression="zlib")
        else:
            Image.fromarray(pages[0]).save(temporary)


def _unreadable(path: Path, error: Exception) -> SourceError:
    # Pillow's decoders also fail with an IndexError or KeyError, whose text says nothing.
    told = str(error).strip() if not isinstance(error, LookupError) else ""
    reason = told.splitlines()[0] if told else "damaged"
    advice = "pip install imagecodecs" if "imagecodecs" in reason else "is it whole, and an image?"
    return SourceError(f"{path}: cannot be read ({reason}); {advice}")


def _read_picture(path: Path) -> Array:
    if path.suffix.lower() == ".png" and _png_colour_bits(path) == 16:
        raise SourceError(f"{path}: 16-bit colour PNG would lose half of its bits; convert it to TIFF")
    with Image.open(path) as opened:
        image: Image.Image = opened
        if image.mode in ALPHA:
            image = image.convert(ALPHA[image.mode])
        if image.mode == "P" and _is_grey(image):
            image = image.convert("L")
        if image.mode not in EXACT_MODES:
            image = image.convert("RGB")
        array = np.asarray(image)
    return array.T[:, :, :, None] if array.ndim == 3 else array.T[None, :, :, None]


def _png_colour_bits(path: Path) -> int:
    """Bits per sample of a colour PNG, 0 for grey: Pillow reduces 16-bit colour to 8 bits without a word."""
    with path.open("rb") as stream:
        header = stream.read(26)
    return header[24] if header[25] & 2 else 0


def _is_grey(image: Image.Image) -> bool:
    palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    used = palette[np.unique(np.asarray(image))]
    return bool((used == used[:, :1]).all())


def _read_tiff(path: Path) -> Array:
    with TiffFile(path) as tiff:
        series = _only_series(path, tiff)
        array: Array = series.asarray()
        axes = series.axes
        has_alpha = bool(series.keyframe.extrasamples)
    channel = _channel_axis(axes)
    if channel is None:
        array, axes, channel = array[None], f"C{axes}", 0
    depth = [i for i, axis in enumerate(axes) if axis not in "YX" and i != channel]
    array = array.transpose(channel, axes.index("X"), axes.index("Y"), *depth)
    array = array.reshape(*array.shape[:3], -1)
    return array[:-1] if has_alpha and len(array) in (2, 4) else array


def _tiff_shape(path: Path, tiff: TiffFile) -> Shape3:
    series = _only_series(path, tiff)
    sizes = dict(zip(series.axes, series.shape, strict=True))
    channel = _channel_axis(series.axes)
    n_channels = 1 if channel is None else series.shape[channel]
    x, y = sizes["X"], sizes["Y"]
    return x, y, int(np.prod(series.shape)) // (x * y * n_channels)


def _only_series(path: Path, tiff: TiffFile) -> TiffPageSeries:
    series: TiffPageSeries = tiff.series[0]
    if len(tiff.series) > 1:
        shapes = ", ".join(str(each.shape) for each in tiff.series)
        raise SourceError(f"{path}: pages of different sizes ({shapes}); split them into files")
    if sum(axis not in "YXSC" and n > 1 for axis, n in zip(series.axes, series.shape, strict=True)) > 1:
        raise SourceError(f"{path}: axes {series.axes} {series.shape}; split it into files with one stack each")
    return series


def _channel_axis(axes: str) -> int | None:
    """S are samples of a colour pixel, C the channels of a microscope."""
    for name in "SC":
        if name in axes:
            return axes.index(name)
    return None
