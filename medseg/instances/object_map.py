"""Object maps: one number for each object of a case."""

from dataclasses import dataclass
from pathlib import Path

import cc3d
import fastremap
import numpy as np

from medseg.errors import LabelError
from medseg.labels import Labels
from medseg.progress import listed
from medseg.transforms.grids import label_map_on_grid
from medseg.volume import Array, Geometry

EDGE = 1e-6  # of a voxel: centres that lie between two voxels of the source take the lower one
LARGEST_TABLE = 2**24  # entries that are cheap in any case


@dataclass(frozen=True)
class ObjectMap:
    """The objects of a case.

    Attributes:
        array: ``(x, y, z)``, int32: 0 for the background, and 1 … n. Numbers mean nothing.
        classes: ``(n,)``: the label value of each object, as in the user's files.
        names: What each object is called on disk: its value, its segment, or its file.

    Example:
        >>> import numpy as np
        >>> from medseg.instances.object_map import ObjectMap
        >>> objects = ObjectMap(np.array([[[0, 1, 1, 2]]], np.int32), np.array([7, 7]), ("12", "40"))
        >>> len(objects), objects.class_map.tolist()
        (2, [[[0, 7, 7, 7]]])
    """

    array: Array
    classes: Array
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def class_map(self) -> Array:
        """The label value of each voxel's object, ``(x, y, z)``; 0 where there is none."""
        table = np.concatenate([[0], self.classes]).astype(np.int64)
        fitting = np.result_type(*map(np.min_scalar_type, (int(table.min()), int(table.max()))))
        class_map: Array = table.astype(fitting)[self.array]
        return class_map

    def counts(self, labels: Labels) -> dict[str, int]:
        """Returns how many objects there are of each instance label, by its name."""
        values = dict(zip(labels.names, labels.values, strict=True))
        return {name: int(np.count_nonzero(self.classes == values[name])) for name in labels.instances}

    def only(self, kept: Array) -> "ObjectMap":
        """Returns some of the objects, numbered anew; ``kept`` is boolean ``(n,)``."""
        numbers = np.zeros(len(self) + 1, np.int32)
        numbers[1:][kept] = np.arange(1, np.count_nonzero(kept) + 1)
        names = tuple(name for name, keep in zip(self.names, kept, strict=True) if keep)
        return ObjectMap(numbers[self.array], self.classes[kept], names)

    def present(self, array: Array | None = None) -> Array:
        """Returns which objects have a voxel, in their own map or in another ``array``: boolean ``(n,)``."""
        found = np.zeros(len(self) + 1, bool)
        found[fastremap.unique(self.array if array is None else array)] = True
        return found[1:]


@dataclass(frozen=True)
class LostObjects:
    """The objects of one label of which no voxel is left on another grid.

    Attributes:
        label: Its value in the user's files.
        names: What the objects are called on disk.
        n_objects: How many the label has, lost ones included.
        voxels: How many voxels the lost ones have in the source.
    """

    label: int
    names: tuple[str, ...]
    n_objects: int
    voxels: int


def find_lost_objects(objects: ObjectMap, on_grid: Array) -> list[LostObjects]:
    """Returns what each label loses on another grid.

    Args:
        objects: On the grid of the source.
        on_grid: The same objects on the other grid, ``(x, y, z)``.
    """
    lost = ~objects.present(on_grid)
    if not lost.any():
        return []
    voxels = np.bincount(objects.array.ravel(order="K"), minlength=len(objects) + 1)[1:]
    return [
        LostObjects(
            label=int(label),
            names=tuple(objects.names[i] for i in np.flatnonzero(lost & (objects.classes == label))),
            n_objects=int(np.count_nonzero(objects.classes == label)),
            voxels=int(voxels[lost & (objects.classes == label)].sum()),
        )
        for label in np.unique(objects.classes[lost])
    ]


def numbered(values: Array, label: int = 1, ignore: int | None = None, path: Path | None = None) -> ObjectMap:
    """Returns the objects that the values of an array number: all values but 0 and the ignore value.

    Args:
        values: ``(x, y, z)``, whole numbers of any type.
        label: The label value of all objects.
        ignore: The value of voxels that nobody annotated.
        path: The file, for messages.

    Raises:
        LabelError: Values are below 0, or too large for the type of the array to tell them apart.

    Example:
        >>> import numpy as np
        >>> from medseg.instances.object_map import numbered
        >>> objects = numbered(np.array([[[0, 70000, 12, 12]]]))
        >>> objects.array.tolist(), objects.names
        ([[[0, 2, 1, 1]]], ('12', '70000'))
    """
    where = "the object map" if path is None else str(path)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind == "f":
        values = _whole(values, where)
    ids = np.asarray(fastremap.unique(np.asfortranarray(values)))
    ids = ids[ids != 0] if ignore is None else ids[(ids != 0) & (ids != ignore)]
    if len(ids) and ids[0] < 0:
        below = [str(value) for value in ids[ids < 0]]
        raise LabelError(
            f"{where}: numbers objects by values below 0: {listed(below)}; number them 1, 2, 3, …, or say "
            f"--ignore-value {below[0]} where that marks voxels that nobody annotated"
        )
    return ObjectMap(_renumbered(values, ids), np.full(len(ids), label), tuple(map(str, ids.tolist())))


def components(label_map: Array, labels: Labels) -> ObjectMap:
    """Returns the connected components of the instance labels: voxels that touch at a face, an edge or a corner.

    Args:
        label_map: ``(x, y, z)``, label values.
        labels: With instance labels.

    Example:
        >>> import numpy as np
        >>> from medseg.instances.object_map import components
        >>> from medseg.labels import Labels
        >>> labels = Labels.from_names({"liver": 1, "lesion": 2}).with_instances(["lesion"])
        >>> components(np.array([[[2, 1, 2]]]), labels).array.tolist()
        [[[1, 0, 2]]]
    """
    network = np.zeros(label_map.shape, np.uint8)
    for i in labels.instance_values:
        network[label_map == labels.values[i - 1]] = i
    found, n = cc3d.connected_components(np.asfortranarray(network), connectivity=26, return_N=True)
    classes = np.zeros(n + 1, np.int64)
    classes[found] = network
    values = np.array([0, *labels.values])[classes[1:]]
    return ObjectMap(found.astype(np.int32, copy=False), values, tuple(map(str, range(1, n + 1))))


def pieces(objects: Array) -> Array:
    """Returns in how many pieces each object lies, voxels of which touch at a face, an edge or a corner.

    Args:
        objects: ``(x, y, z)``, numbers from 1.

    Returns:
        ``(n,)``; 0 for an object without a voxel.

    Example:
        >>> import numpy as np
        >>> from medseg.instances.object_map import pieces
        >>> pieces(np.array([[[1, 0, 1, 2]]], np.int32)).tolist()
        [2, 1]
    """
    found, n = cc3d.connected_components(np.asfortranarray(objects), connectivity=26, return_N=True)
    object_of = np.zeros(n + 1, np.int64)
    object_of[found] = objects
    counts: Array = np.bincount(object_of[1:], minlength=int(objects.max(initial=0)) + 1)[1:]
    return counts


def objects_on(objects: Array, source: Geometry, target: Geometry) -> Array:
    """Returns an object map on another grid: each voxel gets the object at its place, so that none are ever merged.

    Args:
        objects: ``(x, y, z)`` on ``source``, int32.
        source: Where it lies.
        target: Where it is wanted.

    Returns:
        Objects ``(x, y, z)`` on ``target``; 0 outside of ``source``.

    Example:
        >>> import numpy as np
        >>> from medseg.instances.object_map import objects_on
        >>> from medseg.volume import Geometry
        >>> half = Geometry((4, 1, 1), np.diag([0.5, 1, 1, 1]))
        >>> objects_on(np.array([7, 9], np.int32).reshape(2, 1, 1), Geometry((2, 1, 1), np.eye(4)), half).ravel()
        array([7, 7, 9, 9], dtype=int32)
    """
    to_source = np.linalg.inv(source.affine) @ target.affine
    axes = np.abs(to_source[:3, :3]).argmax(axis=0)  # of the source, for each axis of the target
    aside = to_source[:3, :3].copy()
    aside[axes, range(3)] = 0
    if len(set(axes)) < 3 or np.abs(aside * target.shape).max() > EDGE:  # sheared, or turned
        return label_map_on_grid(objects, source, target)
    turned = objects.transpose(axes)
    places = [
        np.ceil(np.arange(n) * to_source[axis, i] + to_source[axis, 3] - 0.5 - EDGE).astype(np.int64)
        for i, (axis, n) in enumerate(zip(axes, target.shape, strict=True))
    ]
    within = [(place >= 0) & (place < n) for place, n in zip(places, turned.shape, strict=True)]
    result: Array = np.zeros(target.shape, objects.dtype)
    inside = [place[taken] for place, taken in zip(places, within, strict=True)]
    result[np.ix_(*within)] = turned[np.ix_(*inside)]
    return result


def _whole(values: Array, where: str) -> Array:
    """Returns whole numbers in floats as integers.

    Raises:
        LabelError: Some are too large for floats of this type to tell them from their neighbours.
    """
    largest = 2 ** (np.finfo(values.dtype).nmant + 1)
    if float(np.abs(values).max(initial=0)) > largest:
        raise LabelError(
            f"{where}: its values reach {values.max():.12g}, and {values.dtype} tells whole numbers apart up to "
            f"{largest:,} only, so that objects may be merged; store integers"
        )
    integers: Array = values.astype(np.int64)
    return integers


def _renumbered(values: Array, ids: Array) -> Array:
    """Returns the place of each value among the sorted ``ids``, from 1; 0 for what is none of them."""
    numbers = np.zeros(values.shape, np.int32, order="F" if values.flags.f_contiguous else "C")
    if not len(ids):
        return numbers
    by_table = values.dtype.itemsize <= 2 or int(ids[-1]) < max(values.size, LARGEST_TABLE)
    table = np.zeros(int(ids[-1]) + 1 if by_table else 0, np.int32)
    if by_table:
        table[ids] = np.arange(1, len(ids) + 1)
    for z in range(values.shape[2]):  # plane by plane, since places are 64-bit integers
        plane = values[..., z]
        if by_table:
            known = (plane >= 0) & (plane < len(table))
            numbers[..., z] = np.where(known, table[np.where(known, plane, 0)], 0)
        else:
            place = np.searchsorted(ids, plane).clip(max=len(ids) - 1)
            numbers[..., z] = np.where(ids[place] == plane, place + 1, 0)
    return numbers
