"""The labels of a folder that is annotated, and label maps in their values."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medseg.dataset.annotations import labels_file, read_annotated_labels, write_annotated_labels
from medseg.errors import LabelError
from medseg.files import modified_at
from medseg.labels import Labels
from medseg.volume import LabelMap


class FolderLabels:
    """What the values of label maps in a folder stand for; several servers may add to it.

    Args:
        folder: The folder.

    Attributes:
        of_dataset: Those that its label maps came with; they hold until others are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.of_dataset = Labels(items=())
        self._read = Labels(items=())
        self._written_at = 0

    def known(self) -> Labels:
        """Returns the labels, from the disk where they were changed there.

        Raises:
            SourceError: annotations.json is damaged.
        """
        written_at = modified_at(labels_file(self.folder))
        if written_at != self._written_at:
            self._read = read_annotated_labels(self.folder) or Labels(items=())
            self._written_at = written_at
        return self._read if self._read.items else self.of_dataset

    def write(self, labels: Labels) -> None:
        """Writes the labels.

        Raises:
            OutputError: They cannot be written.
        """
        self._written_at = modified_at(write_annotated_labels(self.folder, labels))
        self._read = labels


def in_values_of(labels: Labels, label_map: LabelMap, names: Mapping[int, str]) -> LabelMap:
    """Returns a label map in the values of labels, which have all of its names.

    Args:
        labels: Those of the folder.
        label_map: In other values.
        names: What these stand for.

    Raises:
        LabelError: A value has no name, or there are too many labels.
    """
    labels.check(())
    known = {} if labels.ignore is None else {labels.ignore: labels.ignore}
    known |= {value: labels.values[labels.names.index(name)] for value, name in names.items()}
    unknown = sorted(set(np.unique(label_map).tolist()) - {0, *known})
    if unknown:
        raise LabelError(f"label value {unknown[0]} is not among the known {sorted({0, *known})}")
    in_values: LabelMap = np.zeros(label_map.shape, np.min_scalar_type(max([1, labels.ignore or 0, *labels.values])))
    for value, own in known.items():
        in_values[label_map == value] = own
    return in_values


def voxels_by_name(label_map: LabelMap, labels: Labels) -> dict[str, int]:
    """Returns how many voxels each label has, by name, where it has any.

    Args:
        label_map: In the values of the labels.
        labels: Of the folder.
    """
    counts = Counter(dict(zip(*(part.tolist() for part in np.unique(label_map, return_counts=True)), strict=True)))
    return {label.name: counts[label.value] for label in labels.items if counts[label.value]}
