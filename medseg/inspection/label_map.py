"""What is drawn in the label map of a case: how much of each label, and whether its values can be meant."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from medseg.dataset.cases import Case, LabelSource
from medseg.dataset.label_shapes import LabelShape, label_shapes
from medseg.dataset.label_values import REWRITABLE, nearest_labels
from medseg.dataset.reading import label_volume
from medseg.errors import LabelError, MedsegError
from medseg.inspection.finding import Finding, told
from medseg.inspection.repair import Revalue
from medseg.instances.case_labels import CaseLabels, read_case_labels, told_apart
from medseg.instances.object_map import ObjectMap, pieces
from medseg.io.read import read_geometry, read_volume
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.progress import listed
from medseg.volume import GRID_TOLERANCE, Array, Geometry


@dataclass(frozen=True)
class Drawn:
    """What is drawn in the label map of a case.

    ``voxels`` of each value but 0 and the ignore value, their ``shapes``, and the middle of some, in RAS mm; None for a
    label map that cannot be read.
    """

    case: Case
    voxels: Mapping[int, int] | None
    voxel_ml: float | None = None  # None for pictures, whose pixels have no size
    centres: Mapping[int, tuple[float, float, float]] | None = None
    shapes: Mapping[int, LabelShape] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    annotated_part: float = 1.0  # of the voxels: those without the ignore value
    n_objects: Mapping[str, int] | None = None  # of each instance label, by its name; None where there is none


def look_at_label(
    case: Case, *, paired: frozenset[int] = frozenset(), ignore: int | None = None, labels: Labels | None = None
) -> Drawn:
    """Returns what is drawn in the label map of a case. It runs in a worker.

    Args:
        case: The case.
        paired: Values of labels that have another side, whose middle is wanted.
        ignore: The value of voxels that nobody annotated.
        labels: Where they are known.
    """
    label = case.label
    if label is None:
        return Drawn(case, None)
    try:
        (label_map, objects, notes), grid = _read(case, label, labels)
    except MedsegError as error:
        return Drawn(case, None, findings=(_unreadable(case, label, error),))
    values, counts = np.unique(label_map, return_counts=True)
    voxels = {int(value): int(n) for value, n in zip(values, counts, strict=True) if value}
    n_ignored = 0 if ignore is None else voxels.pop(ignore, 0)
    return Drawn(
        case,
        voxels,
        voxel_ml=None if case.images[0].kind == "image2d" else grid.voxel_volume_ml,
        shapes=label_shapes(label_map, grid.spacing, ignore),
        centres={value: _centre(label_map == value, grid) for value in paired & voxels.keys()},
        findings=(
            *(_noted(case, label, note) for note in notes),
            *([] if voxels else [_empty(case, label)]),
            *(_in_pieces(case, label, objects) if objects else ()),
        ),
        annotated_part=1 - n_ignored / label_map.size,
        n_objects=objects.counts(labels) if objects is not None and labels else None,
    )


def _read(case: Case, label: LabelSource, labels: Labels | None) -> tuple[CaseLabels, Geometry]:
    """Returns what is drawn on its own grid, so that values are known even where that is another than its image's."""
    if label.values is None and case.objects is None:
        volume = label_volume(label.sources[0])
        if labels is None or not labels.instances:
            return CaseLabels(volume.label_map), volume.geometry
        return told_apart(volume.label_map, labels, label.path), volume.geometry
    grid = read_geometry(case.images[0])
    return read_case_labels(case, grid, labels, GRID_TOLERANCE), grid


def _in_pieces(case: Case, label: LabelSource, objects: ObjectMap) -> Iterator[Finding]:
    """Yields that objects lie in several pieces, as a slip of the brush leaves them."""
    several = [objects.names[i] for i in np.flatnonzero(pieces(objects.array) > 1)]
    if several:
        what = f"objects in several pieces: {len(several)} of {len(objects)} ({listed(several)})"
        to_do = "each is taken for one object; number its pieces apart where they are several"
        path = label.path if case.objects is None else case.objects.path
        yield Finding("warning", "object-in-pieces", path, what, to_do, case.case_id)


def _noted(case: Case, label: LabelSource, note: str) -> Finding:
    return Finding("note", "label-map", label.path, *told(note, label.path), case.case_id)


def _empty(case: Case, label: LabelSource) -> Finding:
    to_do = "leave the case out, or accept it with --set preprocessing.allow_empty_labels=true"
    return Finding("problem", "empty-label-map", label.path, "is empty (background only)", to_do, case.case_id)


def _unreadable(case: Case, label: LabelSource, error: MedsegError) -> Finding:
    what, to_do = told(str(error), label.path)
    if not isinstance(error, LabelError):
        return Finding("problem", "unreadable", label.path, what, to_do, case.case_id)
    repair = _rounded(label.sources[0])
    if repair is not None:
        to_do = f"--fix gives each voxel the nearest of the values {', '.join(map(str, repair.drawn))}"
    return Finding("problem", "label-values", label.path, what, to_do, case.case_id, repair)


def _rounded(source: ImageSource) -> Revalue | None:
    """Returns how to round a label map whose values are not whole numbers; None when it is hardly a label map."""
    array = read_volume(source).array
    drawn = nearest_labels(array) if source.kind in REWRITABLE and len(array) == 1 else None
    return None if drawn is None else Revalue(drawn)


def _centre(mask: Array, grid: Geometry) -> tuple[float, float, float]:
    along = [mask.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    x, y, z = grid.world([np.average(np.arange(len(n)), weights=n) for n in along])
    return float(x), float(y), float(z)
