"""What the checks of NIfTI, .seg.nrrd and pictures share: voxels as SimpleITK reads them, compared with a label map."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.io.certificates.certificate import Certificate
from medseg.io.certificates.raw_slices import LPS_TO_RAS
from medseg.io.label_map_volume import LabelMapVolume
from medseg.volume import GRID_TOLERANCE, Array, Geometry

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

Expected = Callable[[Array], Array]  # what (x, y) of a layer hold, where the label map holds the (x, y) given


@dataclass(frozen=True)
class VoxelsFound:
    """What a reader sees in a file.

    Attributes:
        reader: Name and version of the library.
        layers: ``(layer, x, y, z)``.
        geometry: The grid, in RAS mm.
        keys: Those of the header.
        image: SimpleITK's, in whose memory the layers lie.
    """

    reader: str
    layers: Array
    geometry: Geometry
    keys: dict[str, str] = field(default_factory=dict)
    image: object = None


def compared(
    found: VoxelsFound, segmented: LabelMapVolume, expected: Sequence[Expected], place: Geometry
) -> Certificate:
    """Compares each layer with what is expected of it, slice by slice.

    Args:
        found: What the file holds.
        segmented: What was to be written.
        expected: For each layer, a function from ``(x, y)`` of the label map to what the layer holds there.
        place: Where the grid belongs.
    """
    label_map = segmented.label_map
    if found.layers.shape != (len(expected), *label_map.shape):
        return not_compared(found, f"it has {found.layers.shape} voxels instead of {(len(expected), *label_map.shape)}")
    n_different = sum(
        int(np.count_nonzero(layer[..., z] != hold(label_map[..., z])))
        for layer, hold in zip(found.layers, expected, strict=True)
        for z in range(label_map.shape[2])
    )
    return Certificate(
        reader=found.reader,
        n_voxels=found.layers.size,
        n_different=n_different,
        max_distance_mm=place.distance(found.geometry),
        tolerance_mm=GRID_TOLERANCE * min(place.spacing),
    )


def not_compared(found: VoxelsFound, remark: str) -> Certificate:
    """Returns the certificate of a file that is not worth comparing.

    Args:
        found: What the file holds.
        remark: What is wrong with it.
    """
    return Certificate(found.reader, 0, 0, 0.0, 0.0, remark=remark)


def read_by_itk(path: Path) -> VoxelsFound:
    """Reads a file by SimpleITK.

    Raises:
        RuntimeError: SimpleITK cannot read it.
    """
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    image = reader.Execute()
    array = SimpleITK.GetArrayViewFromImage(image).T  # axes from the fastest: component, x, y, z
    layers = array if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    return VoxelsFound(
        reader=f"SimpleITK {SimpleITK.Version.VersionString()}",
        layers=layers[..., None] if image.GetDimension() == 2 else layers,
        geometry=_geometry_of(reader),
        keys={key: image.GetMetaData(key) for key in image.GetMetaDataKeys()},
        image=image,
    )


def geometry_by_itk(path: Path) -> Geometry:
    """Reads the grid of a file by SimpleITK.

    Raises:
        RuntimeError: SimpleITK cannot read it.
    """
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return _geometry_of(reader)


def _geometry_of(reader: "ImageFileReader") -> Geometry:
    """Returns the grid of the first three axes, in RAS mm."""
    n, spatial = reader.GetDimension(), min(reader.GetDimension(), 3)
    affine = np.eye(4)
    directions = np.reshape(reader.GetDirection(), (n, n)) * reader.GetSpacing()
    affine[:spatial, :spatial] = directions[:spatial, :spatial]
    affine[:spatial, 3] = reader.GetOrigin()[:spatial]
    x, y, z = (*reader.GetSize(), 1)[:3]
    return Geometry((x, y, z), LPS_TO_RAS @ affine)
