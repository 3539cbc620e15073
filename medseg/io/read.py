"""One way to read an image, whatever it is stored as."""

from pathlib import Path

from medseg.io.dicom import dicom_geometry, read_dicom
from medseg.io.discover import source_of
from medseg.io.image2d import image2d_geometry, read_image2d
from medseg.io.nifti import nifti_geometry, read_nifti
from medseg.io.source import ImageSource
from medseg.volume import Geometry, Volume

READERS = {
    "nifti": lambda source: read_nifti(source.path),
    "image2d": lambda source: read_image2d(source.path),
    "dicom": read_dicom,
}
GEOMETRY_READERS = {
    "nifti": lambda source: nifti_geometry(source.path),
    "image2d": lambda source: image2d_geometry(source.path),
    "dicom": dicom_geometry,
}


def read_volume(source: ImageSource | Path | str) -> Volume:
    """Voxels ``(channel, x, y, z)`` with the exact values of the source, and where they lie.

    A path may be a NIfTI file, a PNG, JPEG or TIFF, a folder with exactly one DICOM series, or one file of a
    series, which stands for all of it. Raises ``SourceError`` for what cannot be read, ``GeometryError`` for
    slices that make no grid.
    """
    source = _source(source)
    return READERS[source.kind](source)


def read_geometry(source: ImageSource | Path | str) -> Geometry:
    """The grid of an image, from headers alone. Takes and raises what ``read_volume`` does."""
    source = _source(source)
    return GEOMETRY_READERS[source.kind](source)


def _source(source: ImageSource | Path | str) -> ImageSource:
    return source if isinstance(source, ImageSource) else source_of(Path(source))
