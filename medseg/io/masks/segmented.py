"""What is written as a mask."""

from dataclasses import dataclass

from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.volume import Array, Geometry


@dataclass(frozen=True)
class Segmented:
    """A label map (x, y, z) in the values of ``labels``, its grid, and the image that it belongs to.

    The grid is the one that ``read_volume(source)`` gives. DICOM masks need a ``source`` that is DICOM: they are written
    on its slices.
    """

    label_map: Array
    geometry: Geometry
    labels: Labels
    source: ImageSource | None = None
    algorithm: str = "medseg"  # the model's name, for DICOM's algorithm identification
