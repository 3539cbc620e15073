"""Images, segmentations and masks of all formats, read and written.

Each format has a folder, in which its reader, its writer and the check of what was written lie side by side. What they
give has one form: voxels ``(channel, x, y, z)``, label maps ``(x, y, z)``, and a grid in RAS mm.

Names are imported when they are first used.

Example:
    >>> import numpy as np
    >>> from medseg.io import Geometry, read_volume, write_nifti
    >>> grid = Geometry((4, 5, 6), np.diag([-1.0, -1.0, 2.5, 1.0]))
    >>> write_nifti("label_map.nii.gz", np.zeros(grid.shape, np.uint8), grid)
    >>> volume = read_volume("label_map.nii.gz")
    >>> volume.array.shape, volume.geometry.spacing, volume.geometry.orientation
    ((1, 4, 5, 6), (1.0, 1.0, 2.5), 'LPS')

Volumes are made of arrays, too, and images are found where a path leads:

    >>> from pathlib import Path
    >>> from medseg.io import Found, ImageSource, Volume, image_sources
    >>> Volume(np.zeros((1, *grid.shape), np.int16), grid).oriented_as("RAS").geometry.orientation
    'RAS'
    >>> found: Found = image_sources(Path("label_map.nii.gz"))  # a folder as well
    >>> source: ImageSource = found.sources[0]
    >>> source.kind, source.path.name, read_volume(source).array.dtype
    ('nifti', 'label_map.nii.gz', dtype('uint8'))
"""

from typing import TYPE_CHECKING

from medseg.lazy_names import lazy_names

if TYPE_CHECKING:
    from medseg.io.certificates.certificate import Certificate
    from medseg.io.discover import image_sources, source_of
    from medseg.io.label_map_volume import LabelMapVolume
    from medseg.io.mask_formats import Format, Written, format_named, write_mask
    from medseg.io.nifti.writer import write_nifti
    from medseg.io.read import read_geometry, read_segmentation, read_volume, segments_of
    from medseg.io.segmentation import Segment, Segmentation, SegmentHeader
    from medseg.io.source import Found, ImageSource
    from medseg.volume import Geometry, Volume

_HOMES = {
    "Certificate": "medseg.io.certificates.certificate",
    "Format": "medseg.io.mask_formats",
    "Found": "medseg.io.source",
    "Geometry": "medseg.volume",
    "ImageSource": "medseg.io.source",
    "LabelMapVolume": "medseg.io.label_map_volume",
    "Segment": "medseg.io.segmentation",
    "SegmentHeader": "medseg.io.segmentation",
    "Segmentation": "medseg.io.segmentation",
    "Volume": "medseg.volume",
    "Written": "medseg.io.mask_formats",
    "format_named": "medseg.io.mask_formats",
    "image_sources": "medseg.io.discover",
    "read_geometry": "medseg.io.read",
    "read_segmentation": "medseg.io.read",
    "read_volume": "medseg.io.read",
    "segments_of": "medseg.io.read",
    "source_of": "medseg.io.discover",
    "write_mask": "medseg.io.mask_formats",
    "write_nifti": "medseg.io.nifti.writer",
}

__all__ = [
    "Certificate", "Format", "Found", "Geometry", "ImageSource", "LabelMapVolume", "Segment", "SegmentHeader",
    "Segmentation", "Volume", "Written", "format_named", "image_sources", "read_geometry", "read_segmentation",
    "read_volume", "segments_of", "source_of", "write_mask", "write_nifti",
]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
