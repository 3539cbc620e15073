"""A label map on its grid, with the names of its labels and the image that it belongs to: what is written as a mask."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from medseg.errors import SourceError
from medseg.io.certificates.raw_slices import RawSlices, raw_slices
from medseg.io.read import read_volume
from medseg.io.source import ImageSource
from medseg.io.structure_names import file_name, file_names, write_names
from medseg.labels import Labels
from medseg.measures.structures import StructureMeasures, measure_structures
from medseg.structures import Label, Region
from medseg.volume import Array, Geometry, Volume

SegmentationForm = Literal["BINARY", "LABELMAP"]  # of a DICOM SEG


@dataclass(frozen=True)
class LabelMapVolume:
    """A label map, its grid, its labels, and the image that it belongs to.

    Attributes:
        label_map: ``(x, y, z)``, in the values of ``labels``.
        geometry: The grid that ``read_volume(source)`` gives.
        labels: Names, values and regions.
        source: The image. Masks in DICOM need one that is DICOM: they are written on its slices.
        algorithm: The model's name, for DICOM's algorithm identification.
        segmentation: The form of the DICOM SEG of the same mask that structured reports refer to.
        predicted_by: A digest of the model and the settings that predicted it: the UIDs of its DICOM objects follow
            from that and from the source. "": from the mask itself, which somebody drew.
        painted: Gives what pictures show in place of the label map, where objects are told apart: see ``shown``.
    """

    label_map: Array
    geometry: Geometry
    labels: Labels
    source: ImageSource | None = None
    algorithm: str = "medseg"
    segmentation: SegmentationForm = "BINARY"
    predicted_by: str = ""
    painted: Callable[[], tuple[Array, tuple[Label, ...]]] | None = None

    @cached_property
    def shown(self) -> tuple[Array, tuple[Label, ...]]:
        """What pictures show ``(x, y, z)``, and what its values are: the labels, or objects by their colours."""
        return (self.label_map, self.labels.items) if self.painted is None else self.painted()

    @cached_property
    def slices(self) -> RawSlices | None:
        """Where the files of a DICOM source say that its slices lie, read once for all formats.

        None without a DICOM source, or where its files don't say it.
        """
        return raw_slices(self.source) if self.source is not None and self.source.kind == "dicom" else None

    @cached_property
    def image(self) -> Volume:
        """The image that it belongs to, read once for all that shows or measures it.

        Raises:
            SourceError: There is none, or it cannot be read.
        """
        if self.source is None:
            raise SourceError("there is no image whose values could be measured or shown")
        return read_volume(self.source)

    @cached_property
    def measures(self) -> StructureMeasures:
        """What was measured of its structures, and of the image in them.

        Raises:
            SourceError: The image cannot be read.
            LabelError: Values are no label's.
        """
        modality = self.source.modality if self.source is not None else ""
        names = [modality or "image"] if len(self.image.array) == 1 else []
        units = ["HU" if modality == "CT" else ""] * len(names)
        return measure_structures(self.label_map, self.labels, self.image.geometry, self.image, names, units)

    def mask(self, structure: Region) -> Array:
        """Returns the mask of a label or region, boolean ``(x, y, z)``."""
        mask = np.zeros_like(self.label_map, dtype=bool)
        for value in structure.values:
            mask |= self.label_map == value
        return mask

    def files(self, folder: Path, suffix: str) -> Iterator[tuple[Region, Path]]:
        """Yields a path for each structure, named after it as far as file systems allow.

        Where two names make one file name, the label values are added.

        Args:
            folder: Where the files are to lie.
            suffix: What their names end with, such as ``".stl"``.
        """
        structures = self.labels.structures
        names = [structure.name for structure in structures]
        if len({file_name(name).casefold() for name in names}) < len(names):
            names = ["_".join(map(str, (name, *s.values))) for name, s in zip(names, structures, strict=True)]
        names = file_names(names)
        for structure, name in zip(structures, names, strict=True):
            yield structure, folder / f"{name}{suffix}"


def with_names(written: Mapping[Path, str]) -> list[Path]:
    """Returns the files of structures; with a table of their true names where these differ by more than a space.

    Args:
        written: The names of the structures by file.
    """
    if all(path.name.startswith(f"{name.replace(' ', '_')}.") for path, name in written.items()):
        return list(written)
    return [*written, write_names(next(iter(written)).parent, {path.name: name for path, name in written.items()})]
