"""Objects as structures of their own: what formats of named segments, viewers and pictures show one by one."""

import numpy as np

from medseg.errors import LabelError
from medseg.instances.object_map import ObjectMap
from medseg.labels import MOST_LABELS, Labels
from medseg.structures import COLOURS, Label
from medseg.volume import Array

NEAR = 2  # voxels: objects this close are neighbours, and get different colours


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

    Objects are neighbours that come within two voxels of each other along an axis. Where one has more neighbours than
    there are colours, it has that of the one that has the highest number.

    Args:
        array: ``(x, y, z)``, numbers from 1.

    Example:
        >>> import numpy as np
        >>> from medseg.instances.object_structures import object_colours
        >>> first, second = object_colours(np.array([[[1, 1, 2, 2]]]))
        >>> first != second
        True
    """
    n = int(array.max(initial=0))
    neighbours: list[set[int]] = [set() for _ in range(n + 1)]
    for axis in range(3):
        for step in range(1, NEAR + 1):
            if array.shape[axis] <= step:
                continue
            one = array.take(range(array.shape[axis] - step), axis)
            other = array.take(range(step, array.shape[axis]), axis)
            meet = (one != other) & (one > 0) & (other > 0)
            for a, b in np.unique(np.stack([one[meet], other[meet]]), axis=1).T.tolist():
                neighbours[a].add(b)
                neighbours[b].add(a)
    chosen = [-1] * (n + 1)
    for number in range(1, n + 1):
        taken = {chosen[other] for other in neighbours[number]}
        wanted = [(number - 1 + i) % len(COLOURS) for i in range(len(COLOURS))]
        chosen[number] = next((colour for colour in wanted if colour not in taken), wanted[-1])
    return [COLOURS[colour] for colour in chosen[1:]]


def _codes(label: Label) -> dict[str, object]:
    """Returns the codes of a label, so that its objects keep them under other names."""
    return label.coding._asdict()
