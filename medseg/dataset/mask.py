"""A mask from disk, on the grid of a study."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from medseg.dataset.grid_mismatch import FIX, goes_voxel_by_voxel
from medseg.dataset.reading import label_volume
from medseg.errors import GeometryError
from medseg.io.discover import image_sources, source_of
from medseg.io.mask_formats import Format
from medseg.io.read import SEGMENTATION_READERS, read_geometry, read_segmentation
from medseg.io.segmentation import Segmentation, with_regions
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.progress import say, warn
from medseg.transforms.grids import label_map_on_grid
from medseg.volume import Array, Geometry, Volume


class Mask(NamedTuple):
    """What was read: a label map ``(x, y, z)``, and what its values are called where the file says so."""

    label_map: Array
    geometry: Geometry
    labels: Labels | None = None
    segments: Segmentation | None = None  # that it was made from


def study_of(like: Path) -> ImageSource:
    """Returns the image on whose grid a mask is written.

    Args:
        like: A file, or a folder of one study. Of a DICOM series of several volumes on one grid, the first is taken.

    Raises:
        SourceError: It isn't clear which image is meant.
    """
    found = image_sources(like).sources
    if len(found) < 2 or any(each.kind != "dicom" or each.series_uid != found[0].series_uid for each in found):
        return source_of(like)
    first, *others = map(read_geometry, found)
    if any(first.difference(grid) is not None for grid in others):
        return source_of(like)
    say(f"{like} holds {len(found)} volumes on one grid; the mask is written on {found[0].part}")
    return found[0]


def read_mask(source: ImageSource, study: ImageSource | None = None) -> Mask:
    """Reads a mask, and brings it to the grid of a study.

    Args:
        source: A label map, or a file of named segments.
        study: The image whose grid is wanted; None keeps the grid of the mask.

    Raises:
        GeometryError: None of the mask lies inside of the study.
        LabelError: It is no label map.
        SourceError: A file cannot be read.
    """
    grid = None if study is None else read_geometry(study)
    if source.kind in SEGMENTATION_READERS:
        segmentation = read_segmentation(source, grid, study)
        for note in segmentation.notes:
            warn(f"{source.path}: {note}")
        label_map, labels = with_regions(segmentation)
        return Mask(label_map, segmentation.geometry, labels, segmentation)
    volume = label_volume(source)
    if grid is not None and study is not None:
        volume = _on_grid(volume, grid, source.path, study.path)
    return Mask(_smallest(volume.label_map), volume.geometry)


def without_overlaps(mask: Mask, format_: Format) -> Mask:
    """Returns a mask of one value a voxel: where segments overlap, that of the one with fewer voxels, with a warning.

    Args:
        mask: It is returned as it is where nothing overlaps.
        format_: The one that cannot hold overlapping segments; the warning names it.
    """
    if mask.segments is None or not mask.labels or not mask.labels.regions:
        return mask
    overlapping = ", ".join(region.name for region in mask.labels.regions)
    warn(
        f"{overlapping} overlap, and {format_.name} has one label a voxel: the smaller one is on top; nifti-per-label "
        "or seg-nrrd keep all"
    )
    numbers = {segment.name: segment.number for segment in mask.segments.segments}
    return mask._replace(label_map=_smallest(mask.segments.label_map(numbers)))


def _smallest(label_map: Array) -> Array:
    """Returns it in the smallest integers that hold its values."""
    return label_map.astype(np.result_type(*map(np.min_scalar_type, (int(label_map.min()), int(label_map.max())))))


def _on_grid(volume: Volume, grid: Geometry, mask: Path, like: Path) -> Volume:
    """Returns the same labels on another grid: exactly where only the order of the voxels differs, else resampled."""
    oriented = volume.oriented_as(grid.orientation)
    difference = oriented.geometry.difference(grid)
    if difference is None:
        return Volume(oriented.array, grid)
    warn(f"{mask} lies on another grid than {like} ({difference}): resampled to it, nearest neighbour")
    if goes_voxel_by_voxel(grid, volume.geometry):
        warn(
            f"{mask}: its voxels are as many and as large as those of {like}; if drawn on these, only a header is "
            f"wrong, and resampling moves what was drawn: {FIX} gives label maps the headers of their images instead"
        )
    resampled = label_map_on_grid(volume.label_map, volume.geometry, grid)
    before, after = np.unique(volume.array), np.unique(resampled)
    lost = [int(value) for value in before if value != 0 and value not in after]
    if lost and not resampled.any():
        raise GeometryError(f"no label of {mask} lies inside of {like}; is it the study that was segmented?")
    if lost:
        warn(f"{mask}: no voxel is left of labels {lost} on the grid of {like}")
    return Volume(resampled[None], grid)
