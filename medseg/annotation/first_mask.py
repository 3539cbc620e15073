"""The mask that a model gives by itself, in the labels that are drawn."""

from typing import NamedTuple

import numpy as np

from medseg.labels import Labels
from medseg.volume import Array


class FirstMask(NamedTuple):
    """What a model says of a case without prompts.

    Attributes:
        label_map: uint8 ``(x, y, z)``, in the network values of the labels that are drawn.
        left_out: Names of the model's labels that are not among these.
    """

    label_map: Array
    left_out: tuple[str, ...]


def in_labels(label_map: Array, given: Labels, wanted: Labels) -> FirstMask:
    """Returns a label map in the network values of other labels, by their names.

    Args:
        label_map: ``(x, y, z)`` in the file values of ``given``.
        given: Its labels.
        wanted: Those of the result; what has no label of its name there is background.

    Examples:
        >>> import numpy as np
        >>> mask = in_labels(
        ...     np.array([[[0, 5, 7]]]), Labels.from_names({"liver": 5, "spleen": 7}), Labels.from_names({"spleen": 1})
        ... )
        >>> mask.label_map.tolist(), mask.left_out
        ([[[0, 0, 1]]], ('liver',))
    """
    result = np.zeros(label_map.shape, np.uint8)
    for label in given.items:
        if label.name in wanted.names:
            result[label_map == label.value] = wanted.names.index(label.name) + 1
    return FirstMask(result, tuple(name for name in given.names if name not in wanted.names))
