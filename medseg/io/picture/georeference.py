"""Where on Earth a GeoTIFF lies: tags that a mask takes over from its image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.io.picture.tiff import TIFF_SUFFIXES

# ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams. Nodata values
# and statistics (GDAL's own tags) are those of the image, and not of its mask.
TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
MOST_VALUES = 65_536  # of a tag; a georeference has some dozens
TIEPOINT, TRANSFORMATION = 33922, 34264
ASCII = 2

Tag = tuple[int, int, int, object, bool]  # as tifffile takes it: code, type, count, value, of the first page only


def georeference_of(path: Path) -> list[Tag]:
    """Returns the tags that say where a GeoTIFF lies; none of another file.

    They count pixels as the file stores them, so that they belong to a mask that is stored in the same orientation.

    Args:
        path: A TIFF that was read before.

    Source: OGC GeoTIFF Standard 1.1, https://docs.ogc.org/is/19-008r4/19-008r4.html.
    """
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return []
    from tifffile import TiffFile  # takes long to import

    with TiffFile(path) as tiff:
        found = [tiff.pages.first.tags.get(code) for code in TAGS]
        kept = [tag for tag in found if tag is not None and tag.count <= MOST_VALUES]
        # The count of a text is that of its bytes with the one that ends it, which tifffile counts itself.
        return [(tag.code, int(tag.dtype), 0 if tag.dtype == ASCII else tag.count, tag.value, True) for tag in kept]


def shifted(tags: Sequence[Tag], column: int, row: int) -> list[Tag]:
    """Returns the georeference of a part of a picture, which begins at a column and a row of it.

    Args:
        tags: Of the whole picture.
        column: From 0.
        row: From 0.
    """
    return [(code, kind, count, _shifted(code, value, column, row), once) for code, kind, count, value, once in tags]


def _shifted(code: int, value: object, column: int, row: int) -> object:
    if code == TIEPOINT and isinstance(value, tuple | list):  # column, row, 0, x, y, 0, of one or several points
        return tuple(number - (column, row, 0, 0, 0, 0)[i % 6] for i, number in enumerate(value))
    if code == TRANSFORMATION and isinstance(value, tuple | list):  # a matrix of 4 by 4, row by row
        matrix = np.reshape(value, (4, 4)).astype(float)
        matrix[:, 3] += matrix[:, 0] * column + matrix[:, 1] * row
        return tuple(matrix.ravel().tolist())
    return value
