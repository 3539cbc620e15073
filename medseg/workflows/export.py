"""export: read a mask, bring it to the grid of a study, write it in the format of another program."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medseg.dataset.grid_mismatch import FIX, goes_voxel_by_voxel
from medseg.dataset.reading import label_volume
from medseg.errors import ConfigError, GeometryError, LabelError, OutputError
from medseg.evaluation.pairs import labels_beside
from medseg.io.discover import image_sources, mask_source, source_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import Format, Written, format_of, write_mask
from medseg.io.read import SEGMENTATION_READERS, read_geometry, read_segmentation
from medseg.io.segmentation import Segmentation, with_regions
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.progress import say, warn
from medseg.transforms.grids import label_map_on_grid
from medseg.volume import Array, Geometry, Volume


class Mask(NamedTuple):
    """What was read: a label map (x, y, z), and what its values are called where the file says so."""

    label_map: Array
    geometry: Geometry
    labels: Labels | None = None
    segments: Segmentation | None = None  # that it was made from


def export(
    mask: str | Path,
    output: str | Path,
    *,
    like: str | Path | None = None,
    format: str | None = None,
    names: Mapping[int, str] | None = None,
    labels: Labels | None = None,
) -> Written:
    """Writes a mask in another format, on the grid of the study ``like`` (any image that ``read_volume`` takes: a
    NIfTI file, a folder with one DICOM series, or a file of one) if given. Of volumes that lie on one grid it doesn't
    matter which; ``series/time-03`` names one.

    ``mask`` is a label map (NIfTI, NRRD, MetaImage, PNG, TIFF, DICOM) or has named segments (.seg.nrrd, DICOM SEG,
    RTSTRUCT), or is a bundle of 3D Slicer (.mrb) with one. On the same grid, flipped or permuted axes included,
    voxels are copied exactly. On another one, each voxel of the study gets the label at its place in the world
    (nearest neighbour; values are never mixed), with a warning.

    ``format`` is one of ``medseg.io.mask_formats.FORMATS``; without, the name of ``output`` tells. ``output`` is a
    folder for formats with a file for each structure. Names, colours and codes are those of ``labels``, else of the
    segments, else in predictions.json beside the mask; otherwise structures are named after their values. ``names``
    changes names by label value (or number of the segment), as in ``{1: "liver"}``.

    The mask is read back by another reader and compared; the verdict is in the ``certificate`` of what is returned.

    Raises ``SourceError`` when a file cannot be read or the study holds several series, ``LabelError`` when the mask is
    no label map, ``GeometryError`` when none of the mask lies inside of the study, ``ConfigError`` for a format or a
    value that there is not, ``OutputError`` when the file cannot be written, or is not the mask when it is read back.
    """
    mask, output = Path(mask), Path(output)
    chosen = format_of(output, format)
    for path in map(Path, (mask, *([like] if like else []))):
        written = path.parent if chosen.is_folder and path.is_file() else path
        if output.exists() and written.exists() and output.samefile(written):
            raise OutputError(f"{output} is, or holds, what is read and would be overwritten; choose another -o")
    study = None if like is None else _study(Path(like))
    refusal = chosen.refusal(study)
    if refusal:
        raise OutputError(f"{output}: {refusal}")
    if chosen.is_label_map and names:
        raise ConfigError(f"{chosen.name} holds values and no names ({', '.join(names.values())}); choose seg-nrrd")
    source = mask_source(mask)
    read = _read(source, study)
    if chosen.is_label_map:
        read, known = _without_overlaps(read, chosen), Labels(items=())
    else:
        known = _labels(read, labels or read.labels or labels_beside(mask), names or {}, mask)
    return write_mask(chosen, output, LabelMapVolume(read.label_map, read.geometry, known, study or source))


def _study(like: Path) -> ImageSource:
    """The image on whose grid to write; of a DICOM series of several volumes on one grid, the first. Raises
    ``SourceError`` where it isn't clear which."""
    found = image_sources(like).sources
    if len(found) < 2 or any(each.kind != "dicom" or each.series_uid != found[0].series_uid for each in found):
        return source_of(like)
    first, *others = map(read_geometry, found)
    if any(first.difference(grid) is not None for grid in others):
        return source_of(like)
    say(f"{like} holds {len(found)} volumes on one grid; the mask is written on {found[0].part}")
    return found[0]


def _read(source: ImageSource, study: ImageSource | None) -> Mask:
    """On the grid of the study, if there is one."""
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


def _smallest(label_map: Array) -> Array:
    """In the smallest integers that hold its values."""
    return label_map.astype(np.result_type(*map(np.min_scalar_type, (int(label_map.min()), int(label_map.max())))))


def _on_grid(volume: Volume, grid: Geometry, mask: Path, like: Path) -> Volume:
    """The same labels on another grid: exactly where only the order of the voxels differs, else resampled."""
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


def _labels(read: Mask, known: Labels | None, names: Mapping[int, str], mask: Path) -> Labels:
    """The known ones, or one for each value; with other names where ``names`` gives them."""
    present = [int(value) for value in np.unique(read.label_map)]
    labels = known or Labels.from_values([*present, *names])
    try:
        labels.check(present)
        return labels.renamed(names)
    except LabelError as error:
        raise LabelError(f"{mask}: {error}") from error


def _without_overlaps(read: Mask, format_: Format) -> Mask:
    """A label map has one value a voxel: where segments overlap, that of the one with fewer voxels."""
    if read.segments is None or not read.labels or not read.labels.regions:
        return read
    overlapping = ", ".join(region.name for region in read.labels.regions)
    warn(
        f"{overlapping} overlap, and {format_.name} has one label a voxel: the smaller one is on top; nifti-per-label "
        "or seg-nrrd keep all"
    )
    numbers = {segment.name: segment.number for segment in read.segments.segments}
    return read._replace(label_map=_smallest(read.segments.label_map(numbers)))
