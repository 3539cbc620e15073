"""Objects as structures of their own: what formats of named segments, viewers and pictures show one by one."""

from itertools import product

import fastremap
import numpy as np
import numpy.typing as npt

from medseg.errors import LabelError
from medseg.instances.object_map import ObjectMap
from medseg.labels import MOST_LABELS, Labels
from medseg.structures import COLOURS, Label
from medseg.volume import Array, Shape3

NO_OBJECT = (150, 150, 150)  # the colour of voxels that belong to none
# Objects with voxels this far apart are neighbours, and get different colours: all 26 around a voxel, and one further
# along each axis; each pair once.
AROUND: list[Shape3] = [(x, y, z) for x, y, z in product((-1, 0, 1), repeat=3)]
NEAR = [*AROUND[14:], (2, 0, 0), (0, 2, 0), (0, 0, 2)]


def object_labels(objects: ObjectMap, labels: Labels) -> Labels:
    """Returns a label for each object: ``nucleus 1``, ``nucleus 2``, with the codes of its own label.

    Args:
        objects: Whose numbers become the values of the labels.
        labels: Names and codes of the labels.

    Raises:
        LabelError: There are more than 254 objects, which a mask of named structures cannot hold.

    Example:
        >>> import numpy as np
        >>> from medseg.instances.object_map import numbered
        >>> from medseg.instances.object_structures import object_labels
        >>> from medseg.labels import Labels
        >>> labels = Labels.from_names({"lesion": 1})
        >>> object_labels(numbered(np.array([[[3, 3, 0, 8]]])), labels).names
        ['lesion 1', 'lesion 2']
    """
    if len(objects) > MOST_LABELS:
        raise LabelError(
            f"{len(objects)} objects are too many for structures of their own, of which a mask holds {MOST_LABELS}; "
            "write the object map itself, as NIfTI or TIFF"
        )
    colours = object_colours(objects.array)
    of_value = {label.value: label for label in labels.items}
    counts = dict.fromkeys(of_value, 0)
    items = []
    for number, value in enumerate(objects.classes.tolist(), start=1):
        counts[value] += 1
        own = of_value[value]
        name, colour = f"{own.name} {counts[value]}", colours[number - 1]
        codes = own.model_copy(update=_codes(own))
        items.append(Label(**{**dict(codes), "name": name, "value": number, "colour": colour, "alone": True}))
    return Labels(items=tuple(items))


def object_colours(array: Array) -> list[tuple[int, int, int]]:
    """Returns a colour for each object, so that neighbours have different ones.

    Objects are neighbours that touch, at corners too, or have one voxel between them along an axis. Where one has more
    neighbours than there are colours, it has that of the one that has the highest number.

    Args:
        array: ``(x, y, z)``, numbers from 1.

    Example:
        >>> import numpy as np
        >>> from medseg.instances.object_structures import object_colours
        >>> first, second = object_colours(np.array([[[1, 1, 2, 2]]]))
        >>> first != second
        True
    """
    return [COLOURS[colour - 1] for colour in colour_numbers(array)[1:]]


def coloured(network_values: Array, labels: Labels, objects: ObjectMap) -> tuple[Array, tuple[Label, ...]]:
    """Returns a label map for pictures, in which objects that lie side by side have values and colours of their own.

    Args:
        network_values: ``(x, y, z)``: 1 for the first label.
        labels: Names and values of the labels, and whose objects are told apart.
        objects: On the same grid.

    Returns:
        The label map, uint8, and what its values are: the labels, then each label of objects once for each colour,
        under its own name. Voxels of such a label that belong to no object are grey.

    Example:
        >>> import numpy as np
        >>> from medseg.instances.object_map import numbered
        >>> from medseg.instances.object_structures import coloured
        >>> from medseg.labels import Labels
        >>> labels = Labels.from_names({"nucleus": 1}).with_instances(["nucleus"])
        >>> array, items = coloured(np.array([[[1, 1, 1, 0]]]), labels, numbered(np.array([[[1, 2, 0, 0]]])))
        >>> array.tolist(), [item.name for item in items]
        ([[[2, 3, 1, 0]]], ['nucleus', 'nucleus', 'nucleus'])
    """
    result = network_values.astype(np.uint8)
    items = [label.model_copy(update={"value": i}) for i, label in enumerate(labels.items, start=1)]
    if len(items) + len(labels.instances) * len(COLOURS) > MOST_LABELS:
        return result, tuple(items)
    colours = colour_numbers(objects.array).astype(np.uint8)[objects.array]
    for value in labels.instance_values:
        own = network_values == value
        of_label = items[value - 1]
        items[value - 1] = of_label.model_copy(update={"colour": NO_OBJECT})
        for colour in np.flatnonzero(np.bincount(colours[own], minlength=1)[1:]) + 1:
            items.append(of_label.model_copy(update={"value": len(items) + 1, "colour": COLOURS[colour - 1]}))
            result[own & (colours == colour)] = len(items)
    return result, tuple(items)


def colour_numbers(array: Array) -> npt.NDArray[np.int64]:
    """Returns the number of each object's colour from 1, by the number of the object; that of 0 is 0.

    Args:
        array: ``(x, y, z)``, numbers of objects from 1.
    """
    n = int(array.max(initial=0))
    neighbours: list[list[int]] = [[] for _ in range(n + 1)]
    for one, other in _pairs_of_neighbours(array, n).tolist():
        neighbours[one].append(other)
        neighbours[other].append(one)
    chosen = np.zeros(n + 1, np.int64)
    for number in range(1, n + 1):
        taken = set(chosen[neighbours[number]].tolist())
        wanted = [1 + (number - 1 + i) % len(COLOURS) for i in range(len(COLOURS))]
        chosen[number] = next((colour for colour in wanted if colour not in taken), wanted[-1])
    return chosen


def _pairs_of_neighbours(array: Array, n: int) -> npt.NDArray[np.int64]:
    """Returns which of ``n`` objects lie side by side: ``(pair, 2)``."""
    found = [np.zeros(0, np.int64)]
    for offset in NEAR:
        one, other = _moved(array, offset), _moved(array, (-offset[0], -offset[1], -offset[2]))
        meet = (one != other) & (one > 0) & (other > 0)
        first, second = one[meet].astype(np.int64), other[meet].astype(np.int64)
        found.append(fastremap.unique(np.minimum(first, second) * (n + 1) + np.maximum(first, second)))
    pairs = np.unique(np.concatenate(found))
    return np.stack([pairs // (n + 1), pairs % (n + 1)], axis=1)


def _moved(array: Array, offset: Shape3) -> Array:
    """Returns the voxels of an array that have a voxel at an offset before them."""
    return array[tuple(slice(max(0, step), min(n, n + step)) for step, n in zip(offset, array.shape, strict=True))]


def _codes(label: Label) -> dict[str, object]:
    """Returns the codes of a label, so that its objects keep them under other names."""
    return label.coding._asdict()
