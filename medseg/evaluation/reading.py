"""A prediction and its reference from disk, on one grid."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import fastremap
import numpy as np

from medseg.dataset.grid_mismatch import FIX, goes_voxel_by_voxel
from medseg.dataset.reading import label_volume, one_structure, put_together, read_segments
from medseg.errors import GeometryError, LabelError
from medseg.evaluation.mask_sources import MaskSource
from medseg.evaluation.pairs import CasePair, EvaluatedMasks
from medseg.instances.case_labels import CaseLabels, told_apart, with_classes
from medseg.instances.object_map import ObjectMap, components
from medseg.io.discover import source_of
from medseg.io.read import read_geometry, read_volume
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.metrics.overlap import without_ignored
from medseg.volume import Array, Geometry, Volume


def read_pair(pair: CasePair, grid_tolerance: float) -> tuple[Volume, Volume]:
    """Returns prediction and reference on one grid; where no prediction can be used, an empty one.

    Args:
        pair: Where they lie.
        grid_tolerance: How far apart grids may be that count as one, as part of the smallest voxel edge.

    Returns:
        Two volumes ``(1, x, y, z)`` of label values, with the axes of the reference.

    Raises:
        GeometryError: When their grids differ.
        SourceError: For a file that cannot be read.
        LabelError: For what is no label map.
    """
    grid = as_said(_grid(pair), pair)
    reference = _read(pair.reference, grid, pair, grid_tolerance)
    if pair.prediction is None:
        return Volume(np.zeros((1, *grid.shape), np.uint8), grid), reference
    return _read(pair.prediction, grid, pair, grid_tolerance), reference


def what_counts(
    prediction: Array, reference: Array, labels: Labels, annotated: Sequence[str] | None
) -> tuple[Array, Array]:
    """Returns both label maps with background where nothing is measured.

    That is where the reference ignores voxels, and for labels that are not among the ``annotated`` ones (None: all
    are). Both are in the values of ``labels``.
    """
    predicted, referred = without_ignored(prediction, reference, labels.ignore)
    return labels.only_annotated(predicted, annotated), labels.only_annotated(referred, annotated)


def as_said(grid: Geometry, pair: CasePair) -> Geometry:
    """Returns the grid with the spacing that the user said of the image of the reference, where headers lost it."""
    said = pair.reference.spacing
    return grid if said is None else grid.with_spacing(said)


def _grid(pair: CasePair) -> Geometry:
    """Returns the grid that both masks are read on: that of the reference.

    If that consists of named segments, it is the grid of the image that they were drawn on, where that is known, else
    of the prediction, if that is a label map.
    """
    reference, prediction = pair.reference, pair.prediction
    if reference.drawn is not None and reference.image is not None:
        return read_geometry(reference.image)
    if reference.drawn is not None and prediction is not None:
        if prediction.drawn is None:
            return read_geometry(prediction.path)
        if prediction.drawn.is_of_structures:
            return read_geometry(prediction.drawn.sources[0])
    return read_geometry(reference.path)


def _read(mask: MaskSource, grid: Geometry, pair: CasePair, grid_tolerance: float) -> Volume:
    """Returns a mask on ``grid``, with its axes."""

    def read_mask(source: ImageSource) -> Array:
        volume = _on(grid, label_volume(source), source.path, pair, grid_tolerance)
        return one_structure(volume.label_map, source)

    if mask.drawn is not None and mask.drawn.is_of_structures and mask.image is None:
        return Volume(put_together(mask.drawn, grid.shape, read_mask).array[None], grid)
    if mask.drawn is not None:
        return Volume(read_segments(mask.drawn, grid, pair.reference.image).array[None], grid)
    try:
        read = label_volume(source_of(mask.path))
    except LabelError as error:  # a folder of masks alone is no source that could be put right as a whole
        raise LabelError(str(error).replace(f"{FIX} gives", "give")) from error
    if mask.numbered is not None:
        read = Volume(labels_of_objects(read.array, mask.numbered), read.geometry)
    return _on(grid, read, mask.path, pair, grid_tolerance)


def labels_of_objects(values: Array, labels: Labels) -> Array:
    """Returns the label values of an array whose values number the objects of the one label that there is."""
    ignored = np.zeros(values.shape, bool) if labels.ignore is None else values == labels.ignore
    return np.where(ignored, labels.ignore or 0, np.where(values != 0, labels.values[0], 0))


def read_objects(
    mask: MaskSource | None, read: Volume, pair: CasePair, labels: Labels, grid_tolerance: float
) -> CaseLabels:
    """Returns the objects of a mask, and a label map that fits them.

    They are those of the object map beside it, the values of its file where these number objects, its segments where a
    label has several, or connected components.

    Args:
        mask: The prediction or the reference; None: there is none that can be used.
        read: What ``read_pair`` read of it.
        pair: Of the case.
        labels: With instance labels.
        grid_tolerance: How far apart grids may be that count as one, as part of the smallest voxel edge.

    Raises:
        GeometryError: The object map lies on another grid.
        LabelError: Values number no objects.
    """
    meant = [0, *labels.values, *([] if labels.ignore is None else [labels.ignore])]
    known = np.where(np.isin(read.label_map, meant), read.label_map, 0)
    file = None if mask is None else mask.objects or (None if mask.numbered is None else source_of(mask.path))
    if file is not None and mask is not None:
        numbers = _on(read.geometry, label_volume(file), file.path, pair, grid_tolerance).label_map
        if mask.objects is not None:
            return with_classes(numbers, known, labels, file.path)
        if not np.isin(fastremap.unique(numbers), meant).all():
            return told_apart(numbers, labels, file.path)
    segments = {} if mask is None or mask.drawn is None else mask.drawn.values or {}
    if mask is not None and mask.drawn is not None and len(set(segments.values())) < len(segments):
        numbered = {name: number for number, name in enumerate(segments, start=1)}
        drawn = replace(mask, drawn=replace(mask.drawn, values=numbered))
        array = _read(drawn, read.geometry, pair, grid_tolerance).label_map.astype(np.int32)
        objects = ObjectMap(array, np.array(list(segments.values())), tuple(segments))
        is_instance = np.isin(objects.classes, [labels.values[i - 1] for i in labels.instance_values])
        return CaseLabels(known, objects.only(is_instance & objects.present()))
    return CaseLabels(known, components(known, labels))


def objects_of_pair(
    pair: CasePair, read: tuple[Volume, Volume], masks: EvaluatedMasks
) -> tuple[ObjectMap | None, ObjectMap | None]:
    """Returns the objects of the prediction and of the reference of a case; None where no label's are told apart.

    Args:
        pair: Of the case.
        read: What ``read_pair`` read of it.
        masks: Of the evaluation.

    Raises:
        GeometryError: An object map lies on another grid.
        LabelError: Values number no objects.
    """
    if not masks.labels.instances:
        return None, None
    one, other = (
        read_objects(mask, each, pair, masks.labels, masks.grid_tolerance).objects
        for mask, each in zip((pair.prediction, pair.reference), read, strict=True)
    )
    return one, other


def _on(grid: Geometry, read: Volume, path: Path, pair: CasePair, grid_tolerance: float) -> Volume:
    volume = Volume(read.array, as_said(read.geometry, pair))
    if volume.geometry.orientation != grid.orientation:
        volume = volume.oriented_as(grid.orientation)
    difference = volume.geometry.difference(grid, grid_tolerance)
    if difference is not None:
        raise GeometryError(
            f"{path} and {pair.reference.path} lie on different grids: {difference}; "
            + _advice(goes_voxel_by_voxel(grid, as_said(read.geometry, pair)), pair)
        )
    return Volume(volume.array, grid)


def _advice(voxel_by_voxel: bool, pair: CasePair) -> str:
    """Returns what to do about grids that differ: of voxels that are as many and as large only a header is wrong."""
    if not voxel_by_voxel:
        return "bring one to the grid of the other with 'medseg export PREDICTION -o FILE --like REFERENCE'"
    if pair.reference.image is None:
        return "their voxels are as many and as large: where a header is wrong, give it that of the other"
    return (
        "their voxels are as many and as large: where the reference has not the header of its image, 'medseg inspect "
        "REFERENCES --fix COPY' gives it that, voxels unchanged; evaluate against COPY"
    )


def image_on(reference: Volume, source: ImageSource | None) -> tuple[Volume | None, str]:
    """Reads an image with the axes of a reference.

    Args:
        reference: On whose grid it has to lie.
        source: The image; None where it was not found.

    Returns:
        The image, or None where there is none on this grid; and why.

    Raises:
        SourceError: The image cannot be read.
        GeometryError: The slices of the image make no grid.
    """
    if source is None:
        return (
            None,
            "Its image was not found: predictions.json beside the predictions, or a dataset as references, names it.",
        )
    image = read_volume(source)
    if image.geometry.orientation != reference.geometry.orientation:
        image = image.oriented_as(reference.geometry.orientation)
    difference = image.geometry.difference(reference.geometry)
    return (image, "") if difference is None else (None, f"{source.path} lies on another grid: {difference}")
