"""COCO JSON: outlines or run lengths of the objects of many pictures in one file.

The form is that of https://cocodataset.org/#format-data: ``images``, ``annotations`` and ``categories``. Run lengths
are counted down the columns; compressed ones are the text that pycocotools writes.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from medseg.errors import GeometryError, SourceError
from medseg.io.rtstruct.polygons import filled
from medseg.io.segmentation import Layers, Segment, Segmentation, SegmentHeader
from medseg.progress import counted
from medseg.records import read_record
from medseg.volume import Array, Geometry

ADVICE = "write it as COCO has it: images, annotations and categories"
CENTRE = 0.5  # of the first pixel: coordinates count from the upper left corner of the picture
LARGEST_EDGE = 2**20
MOST_PIXELS = 2**30  # where no picture says how many there are
MOST_BITS = 60  # of a run length
Polygon = Annotated[tuple[float, ...], Field(min_length=6)]


class CocoPart(BaseModel):
    """A part of a COCO JSON, of which other programs may have written more than is read."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class RunLengths(CocoPart):
    """A mask as the lengths of runs of 0, 1, 0, …, counted down the columns; a text where they are compressed."""

    size: tuple[PositiveInt, PositiveInt]  # rows, columns
    counts: tuple[NonNegativeInt, ...] | str


class CocoImage(CocoPart):
    """A picture: its number, its file, and how large it is."""

    id: int
    file_name: str
    width: Annotated[PositiveInt, Field(le=LARGEST_EDGE)]
    height: Annotated[PositiveInt, Field(le=LARGEST_EDGE)]


class CocoCategory(CocoPart):
    """What objects may be."""

    id: int
    name: str


class CocoAnnotation(CocoPart):
    """An object: its picture, its category and its outlines."""

    image_id: int
    category_id: int
    segmentation: tuple[Polygon, ...] | RunLengths | None = None
    iscrowd: int = 0


class CocoFile(CocoPart):
    """The content of a COCO JSON."""

    images: tuple[CocoImage, ...]
    annotations: tuple[CocoAnnotation, ...]
    categories: tuple[CocoCategory, ...]

    def of_image(self, number: int) -> tuple[CocoImage, list[CocoAnnotation]]:
        """Returns a picture with its objects.

        Raises:
            StopIteration: There is no such picture.
        """
        image = next(each for each in self.images if each.id == number)
        return image, [each for each in self.annotations if each.image_id == number]


def read_coco_file(path: Path) -> CocoFile:
    """Returns the content of a COCO JSON. A process reads a file once, until it changes.

    Raises:
        SourceError: It is none.
    """
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(path: Path, _changed: int) -> CocoFile:
    return read_record(path, CocoFile, ADVICE)


def coco_headers(path: Path, part: str) -> tuple[SegmentHeader, ...]:
    """Returns the objects of a picture without their pixels, called ``CATEGORY 1``, ``CATEGORY 2``.

    Args:
        path: The JSON.
        part: The number of the picture.

    Raises:
        SourceError: It has no such picture, or is no COCO JSON.
    """
    headers, _, _ = _objects(path, part)
    return headers


def read_coco(path: Path, part: str, grid: Geometry | None = None) -> Segmentation:
    """Reads the objects of a picture. A pixel is in an object when its centre is.

    Crowds, which are several objects in one mask, and objects without outlines are left out.

    Args:
        path: The JSON.
        part: The number of the picture.
        grid: That of the picture; None for as many pixels as the JSON says.

    Raises:
        SourceError: It has no such picture, or a mask is damaged.
        GeometryError: The picture has another size than the JSON says.
    """
    headers, annotations, image = _objects(path, part)
    if grid is None and image.width * image.height > MOST_PIXELS:
        raise SourceError(f"{path}: {image.file_name} is said to have {image.width}×{image.height} pixels; {ADVICE}")
    grid = grid or Geometry((image.width, image.height, 1), np.eye(4))
    if grid.shape != (image.width, image.height, 1):
        raise GeometryError(
            f"{path}: says that {image.file_name} has {image.width}×{image.height} pixels, it has "
            f"{'×'.join(map(str, grid.shape[:2]))}; are the two of one dataset?"
        )
    layers = Layers(grid.shape, len(headers))
    segments, n_left_out = [], 0
    for header, annotation in zip(headers, annotations, strict=True):
        mask = _mask(annotation, image, path)
        if mask is None:
            n_left_out += 1
            continue
        x, y = (slice(edge[0], edge[-1] + 1) if len(edge) else slice(0, 0) for edge in _edges(mask))
        box = (x, y, slice(0, 1))
        segments.append(Segment.of(header, layers.add(header.number, mask[x, y, None], box), header.number))
    notes = (f"crowds, and objects without outlines, left out: {counted(n_left_out, 'object')}",) if n_left_out else ()
    return Segmentation(grid, tuple(layers.arrays), tuple(segments), notes)


def _objects(path: Path, part: str) -> tuple[tuple[SegmentHeader, ...], list[CocoAnnotation], CocoImage]:
    content = read_coco_file(path)
    try:
        image, annotations = content.of_image(int(part))
    except (StopIteration, ValueError) as error:
        raise SourceError(f"{path}: has no picture '{part}'") from error
    names = {category.id: category.name for category in content.categories}
    counts: dict[int, int] = defaultdict(int)
    headers = []
    for number, annotation in enumerate(annotations, start=1):
        if annotation.category_id not in names:
            raise SourceError(
                f"{path}: an object of {image.file_name} has the category {annotation.category_id}, which none is"
            )
        counts[annotation.category_id] += 1
        name = f"{names[annotation.category_id]} {counts[annotation.category_id]}"
        headers.append(SegmentHeader(number, name))
    return tuple(headers), annotations, image


def _edges(mask: Array) -> tuple[Array, Array]:
    return np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))


def _mask(annotation: CocoAnnotation, image: CocoImage, path: Path) -> Array | None:
    """Returns the mask of an object, ``(x, y)``; None for a crowd, and for an object without outlines."""
    drawn = annotation.segmentation
    if annotation.iscrowd or not drawn:
        return None
    if isinstance(drawn, RunLengths):
        if drawn.size != (image.height, image.width):
            raise SourceError(f"{path}: a mask of {image.file_name} has another size than the picture")
        counts = _decompressed(drawn.counts) if isinstance(drawn.counts, str) else drawn.counts
        return _from_runs(counts, image, path)
    mask = np.zeros((image.width, image.height), bool)
    for polygon in drawn:
        if len(polygon) % 2:
            raise SourceError(f"{path}: an outline of {image.file_name} has a corner with one coordinate")
        mask |= filled([np.array(polygon).reshape(-1, 2) - CENTRE], (image.width, image.height))
    return mask


def _from_runs(counts: Sequence[int], image: CocoImage, path: Path) -> Array:
    if sum(counts) != image.width * image.height or min(counts, default=0) < 0:
        raise SourceError(f"{path}: the run lengths of a mask of {image.file_name} do not give its pixels")
    runs = np.arange(len(counts)) % 2 == 1
    mask: Array = np.repeat(runs, counts).reshape(image.width, image.height)
    return mask


def _decompressed(text: str) -> list[int]:
    """Returns the run lengths of a compressed text; [-1], which is none, where they are larger than any picture.

    A character has five bits, and a sixth where more follow. From the fourth on they are differences from the last but
    one.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if shift > MOST_BITS:
            return [-1]
        if not code & 0x20:
            if code & 0x10:
                value |= -1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    return counts
