"""Label maps of pictures as GeoJSON: a feature for each structure, whose polygons are its outlines."""

from pathlib import Path
from typing import Literal

import numpy as np

from medseg.errors import OutputError
from medseg.io.label_map_volume import LabelMapVolume
from medseg.records import Record, write_record
from medseg.structures import Colour, Region
from medseg.volume import Array

CENTRE = 0.5  # of the first pixel: coordinates count from the upper left corner of the picture

Ring = tuple[tuple[float, float], ...]  # x along the columns, y down the rows; the first point is repeated at the end


class Classification(Record):
    """What a feature is: the name of its kind, and its colour (red, green, blue), as QuPath reads them."""

    name: str
    color: Colour


class Properties(Record):
    """What is known of a feature beside its outlines, as QuPath reads it."""

    objectType: Literal["annotation"] = "annotation"
    name: str
    classification: Classification


class MultiPolygon(Record):
    """The polygons of a structure, each an outer ring and its holes."""

    type: Literal["MultiPolygon"] = "MultiPolygon"
    coordinates: tuple[tuple[Ring, ...], ...]


class Feature(Record):
    """A structure: its outlines, and what it is."""

    type: Literal["Feature"] = "Feature"
    geometry: MultiPolygon
    properties: Properties


class FeatureCollection(Record):
    """The content of a GeoJSON (RFC 7946), in pixels: x along the columns, y down the rows."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: tuple[Feature, ...]


def write_geojson(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes the outlines of each label and region as a feature of a GeoJSON (RFC 7946), in pixels.

    x runs along the columns and y down the rows, from the upper left corner of the picture. Outlines pass half-way
    between the centres of pixels, so that exactly the pixels whose centres lie inside are the structure. Structures
    without a pixel have no feature.

    Args:
        path: The file.
        segmented: The label map of a picture, with its labels.

    Returns:
        The file.

    Raises:
        OutputError: It has more than one slice, or the file cannot be written.
    """
    n_slices = segmented.label_map.shape[2]
    if n_slices != 1:
        raise OutputError(f"{path}: GeoJSON holds outlines on one picture, not on {n_slices} slices; use NIfTI")
    drawn = [(structure, segmented.mask(structure)[..., 0]) for structure in segmented.labels.structures]
    features = tuple(_feature(structure, mask) for structure, mask in drawn if mask.any())
    write_record(path, FeatureCollection(features=features))
    return [path]


def _feature(structure: Region, mask: Array) -> Feature:
    kind = structure.coding.type.meaning
    classification = Classification(name=kind, color=structure.colour)
    properties = Properties(name=structure.name, classification=classification)
    return Feature(geometry=MultiPolygon(coordinates=tuple(_polygons(mask))), properties=properties)


def _polygons(mask: Array) -> list[tuple[Ring, ...]]:
    """Returns the polygons of a mask ``(x, y)``: of each part, whose pixels share edges, the outer ring and the holes.

    By RFC 7946 outer rings run counterclockwise, and holes clockwise.
    """
    from scipy import ndimage  # takes long to import, as scikit-image does
    from skimage.measure import find_contours

    parts, _ = ndimage.label(mask)
    polygons = []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        part = np.pad(parts[box] == number, 1)
        corner = np.array([box[0].start - 1, box[1].start - 1]) + CENTRE
        rings = [ring + corner for ring in find_contours(part.astype(np.float32), 0.5)]
        outer, *holes = sorted(rings, key=lambda ring: -abs(_area(ring)))
        turned = [outer if _area(outer) > 0 else outer[::-1]]
        turned += [hole if _area(hole) < 0 else hole[::-1] for hole in holes]
        polygons.append(tuple(tuple((float(x), float(y)) for x, y in ring) for ring in turned))
    return polygons


def _area(ring: Array) -> float:
    """Returns the area in a closed ring; below 0 where it runs clockwise."""
    (x, y), (x_next, y_next) = ring[:-1].T, ring[1:].T
    return float((x * y_next - x_next * y).sum() / 2)
