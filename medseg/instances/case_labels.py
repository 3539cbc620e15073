"""What is drawn in a case: its label map, and the objects that are told apart in it.

Objects come as an object map beside the label map, as a label map whose values number objects, as segments or files of
their own, or as the connected components of a label. All become an object map and a label map that fits it: a voxel
has an object where its label is an instance label, and nowhere else.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medseg.dataset.cases import Case, LabelSource
from medseg.dataset.reading import label_map_on, read_label_map, read_segments
from medseg.errors import LabelError
from medseg.instances.object_map import ObjectMap, components, numbered
from medseg.labels import IGNORED, Labels
from medseg.progress import counted, listed
from medseg.volume import Array, Geometry


class CaseLabels(NamedTuple):
    """What is drawn in a case.

    Attributes:
        label_map: ``(x, y, z)``, label values as in the user's files.
        objects: The objects; None where the labels tell none apart.
        notes: What was decided when it was read.
    """

    label_map: Array
    objects: ObjectMap | None = None
    notes: tuple[str, ...] = ()


def values_are_objects(labels: Labels) -> bool:
    """Returns whether the values of label maps number objects: where all there is is one label, and is of objects."""
    return len(labels.items) == 1 and labels.instances == (labels.items[0].name,)


def read_case_labels(case: Case, grid: Geometry, labels: Labels | None, tolerance: float) -> CaseLabels:
    """Reads the label map of a case, and its objects where the labels tell some apart.

    Args:
        case: The case, with a label.
        grid: That of the first image.
        labels: Where they are known.
        tolerance: How far corners of grids may lie apart, as a fraction of the smallest voxel edge.

    Raises:
        GeometryError: The label map lies on another grid.
        LabelError: Its values number no objects.
    """
    if labels is not None and labels.instances and case.label is not None and case.label.values:
        return _annotated(_of_segments(case, case.label, grid, labels, tolerance), case, labels)
    label_map, notes = read_label_map(case, grid, tolerance)
    if labels is None or not labels.instances or case.label is None:
        return CaseLabels(label_map, None, notes)
    if case.objects is not None:
        numbers = label_map_on(grid, case.objects, tolerance, case.images[0])
        found = with_classes(numbers, label_map, labels, case.objects.path)
    else:
        found = told_apart(label_map, labels, case.label.path)
    return _annotated(found._replace(notes=(*notes, *found.notes)), case, labels)


def told_apart(label_map: Array, labels: Labels, path: Path) -> CaseLabels:
    """Returns the objects of a label map that has no object map beside it.

    These are its values where they number objects, else the connected components of its instance labels.

    Args:
        label_map: ``(x, y, z)``, as in the file.
        labels: With instance labels.
        path: The file, for messages.

    Raises:
        LabelError: Its values number no objects.
    """
    if not values_are_objects(labels):
        return CaseLabels(label_map, components(label_map, labels))
    objects = numbered(label_map, labels.values[0], labels.ignore, path)
    class_map = objects.class_map
    if labels.ignore is not None and (label_map == labels.ignore).any():
        class_map = np.where(label_map == labels.ignore, labels.ignore, class_map)
    return CaseLabels(class_map, objects)


def with_classes(numbers: Array, label_map: Array, labels: Labels, path: Path) -> CaseLabels:
    """Returns the objects of an object map, each of the label that most of its voxels have in the label map.

    Objects of labels that are not told apart are left out. Voxels of an instance label without an object become
    background, and voxels of an object get its label.

    Args:
        numbers: ``(x, y, z)``: the object map, as in its file.
        label_map: ``(x, y, z)``: the label map, as in its file.
        labels: With instance labels.
        path: The file of the object map, for messages.

    Raises:
        LabelError: An object lies where there is no label, or values number no objects.
    """
    objects = numbered(numbers, path=path)
    network = labels.encode(label_map)
    network[network == IGNORED] = 0
    n = len(labels.items) + 1
    voxels = np.zeros((len(objects) + 1) * n, np.int64)
    for z in range(network.shape[2]):
        pairs = objects.array[..., z].astype(np.int64) * n + network[..., z]
        voxels += np.bincount(pairs.ravel(), minlength=len(voxels))
    of_label = voxels.reshape(-1, n)[1:]
    of_label[:, 0] = 0
    chosen = of_label.argmax(axis=1)
    nowhere = [name for name, label in zip(objects.names, chosen, strict=True) if label == 0]
    if nowhere:
        raise LabelError(
            f"{path}: {counted(len(nowhere), 'object')} ({listed(nowhere)}) lie where the label map has no label; "
            "are the two of one image?"
        )
    is_instance = np.isin(chosen, labels.instance_values)
    classes = np.array([0, *labels.values])[chosen]
    objects = ObjectMap(objects.array, classes, objects.names).only(is_instance)
    alone = (objects.array == 0) & np.isin(network, labels.instance_values)
    fitting = np.where(objects.array > 0, objects.class_map, np.where(alone, 0, label_map))
    return CaseLabels(fitting, objects, tuple(_told(int(alone.sum()), int((~is_instance).sum()))))


def _annotated(found: CaseLabels, case: Case, labels: Labels) -> CaseLabels:
    """Returns what is drawn without the labels that were not annotated in the case."""
    unknown = labels.unannotated(case.annotated)
    if not unknown or found.objects is None:
        return found
    objects = found.objects.only(~np.isin(found.objects.classes, unknown))
    return found._replace(label_map=labels.only_annotated(found.label_map, case.annotated), objects=objects)


def _told(n_alone: int, n_others: int) -> Iterator[str]:
    if n_alone:
        yield f"of instance labels, but of no object, and taken for background: {counted(n_alone, 'voxel')}"
    if n_others:
        yield f"of labels whose objects are not told apart, and left out: {counted(n_others, 'object')}"


def _of_segments(case: Case, label: LabelSource, grid: Geometry, labels: Labels, tolerance: float) -> CaseLabels:
    """Returns the objects of a case whose segments, or files, are objects of their own."""
    values = label.values or {}
    numbers = {name: number for number, name in enumerate(values, start=1)}
    read = read_segments(replace(label, values=numbers), grid, case.images[0], tolerance)
    segments = ObjectMap(read.array.astype(np.int32, copy=False), np.array(list(values.values())), tuple(values))
    present = segments.present()
    is_object = np.isin(segments.classes, [labels.values[i - 1] for i in labels.instance_values])
    hidden = [name for name, is_it in zip(segments.names, is_object & ~present, strict=True) if is_it]
    notes = [f"of no voxel that others do not cover, and left out: {listed(hidden)}"] if hidden else []
    return CaseLabels(segments.class_map, segments.only(is_object & present), (*read.notes, *notes))
