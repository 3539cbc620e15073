"""One way to read an image or a segmentation, whatever it is stored as."""

import statistics
from dataclasses import replace
from pathlib import Path

from medseg.errors import GeometryError, SourceError
from medseg.io.coco.reader import coco_headers, read_coco
from medseg.io.dicom.series import dicom_geometry, read_dicom, source_planes
from medseg.io.dicom_seg.reader import dicom_seg_headers, read_dicom_seg
from medseg.io.discover import source_of
from medseg.io.nifti.header import check_whole_nifti
from medseg.io.nifti.reader import nifti_geometry, read_nifti
from medseg.io.nrrd.reader import itk_geometry, read_itk
from medseg.io.ome_zarr.reader import ome_zarr_geometry, read_ome_zarr
from medseg.io.parts import chosen_part
from medseg.io.picture.reader import image2d_geometry, read_image2d, read_pictures
from medseg.io.rtstruct.reader import read_rtstruct, rtstruct_headers
from medseg.io.seg_nrrd.reader import read_seg_nrrd, seg_nrrd_headers
from medseg.io.segmentation import Segmentation, SegmentHeader
from medseg.io.source import ImageSource
from medseg.volume import Geometry, Volume

READERS = {
    "nifti": lambda source: chosen_part(read_nifti(source.path), source),
    "pair": lambda source: chosen_part(read_nifti(source.path), source),
    "image2d": lambda source: read_image2d(source.path),
    "pictures": lambda source: read_pictures(source.files),
    "itk": lambda source: chosen_part(read_itk(source.path), source),
    "dicom": read_dicom,
    "ome_zarr": read_ome_zarr,
}
GEOMETRY_READERS = {
    "nifti": lambda source: nifti_geometry(source.path),
    "pair": lambda source: nifti_geometry(source.path),
    "image2d": lambda source: image2d_geometry(source.path),
    "itk": lambda source: itk_geometry(source.path),
    "seg_nrrd": lambda source: itk_geometry(source.path),
    "dicom": dicom_geometry,
    "ome_zarr": ome_zarr_geometry,
}
SEGMENTATION_READERS = {
    "dicom_seg": read_dicom_seg,
    "rtstruct": read_rtstruct,
    "seg_nrrd": lambda path, grid, planes: read_seg_nrrd(path, grid),
}
SEGMENT_READERS = {"dicom_seg": dicom_seg_headers, "rtstruct": rtstruct_headers, "seg_nrrd": seg_nrrd_headers}

# Files of one series differ by this many bytes in their headers alone.
HEADER_BYTES = 4096


def read_volume(source: ImageSource | Path | str) -> Volume:
    """Reads an image, or the label map of a segmentation, whatever it is stored as.

    Values are exactly those of the source. Of a DICOM SEG or ``.seg.nrrd`` the label map of its segments' numbers is
    read. Slices of DICOM that are tilted, uneven or missing are resampled to an even, upright grid.

    Args:
        source: What ``image_sources`` found; or the path of a file, of a folder with exactly one DICOM series, or of
            one file of a series, which stands for all of it. A path may go on in an archive (``study.zip/ct.nii.gz``),
            or to one volume of several (``scan.nii.gz/volume-2``). Where ``source.spacing`` is set, voxels are as large
            as it says.

    Returns:
        Voxels ``(channel, x, y, z)`` and their grid, in RAS mm.

    Raises:
        SourceError: It cannot be read: there is none, there are several, or the file is damaged. Contours (RTSTRUCT)
            cannot be read without their image.
        GeometryError: The slices make no grid, or programs read the place of the voxels differently.

    Example:
        >>> import medseg
        >>> volume = medseg.read_volume("study.zip/ct.nii.gz")  # doctest: +SKIP
        >>> volume.array.shape, volume.geometry.spacing  # doctest: +SKIP
        ((1, 512, 512, 120), (0.8, 0.8, 2.5))
    """
    source = _source(source)
    if source.kind in SEGMENTATION_READERS:
        segmentation = read_segmentation(source)
        label_map = segmentation.label_map({segment.name: segment.number for segment in segmentation.segments})
        return Volume(label_map[None], segmentation.geometry)
    volume = READERS[source.kind](source)
    return volume if source.spacing is None else Volume(volume.array, _as_said(volume.geometry, source))


def read_geometry(source: ImageSource | Path | str) -> Geometry:
    """Reads the grid of an image, from headers alone where these tell it.

    Args:
        source: As for ``read_volume``.

    Returns:
        The grid that ``read_volume`` gives.

    Raises:
        SourceError: As ``read_volume`` does.
        GeometryError: As ``read_volume`` does.

    Examples:
        >>> import numpy as np
        >>> from medseg.io import Geometry, read_geometry, write_nifti
        >>> grid = Geometry((4, 5, 6), np.diag([-1.0, -1.0, 2.5, 1.0]))
        >>> write_nifti("ct.nii.gz", np.zeros(grid.shape, np.int16), grid)
        >>> read_geometry("ct.nii.gz").spacing
        (1.0, 1.0, 2.5)
    """
    source = _source(source)
    if source.kind in GEOMETRY_READERS:
        geometry = GEOMETRY_READERS[source.kind](source)
        return geometry if source.spacing is None else _as_said(geometry, source)
    return read_segmentation(source).geometry


def read_segmentation(
    source: ImageSource | Path | str, grid: Geometry | None = None, image: ImageSource | None = None
) -> Segmentation:
    """Reads the named segments of a DICOM SEG, an RTSTRUCT or a ``.seg.nrrd``.

    Args:
        source: The segmentation, as for ``read_volume``.
        grid: Where the segments are placed, by their places in the world; None for their own grid.
        image: The image that ``grid`` was read from. Its true slices say more than the grid when they are tilted,
            uneven or missing.

    Returns:
        Label maps ``(x, y, z)`` on the grid, and what their values stand for.

    Raises:
        SourceError: The file cannot be read, is no segmentation, or holds contours and no ``grid`` is given.
        GeometryError: Segments lie outside of ``grid``, or make no grid of their own.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from medseg.io import Geometry, LabelMapVolume, format_named, read_segmentation, write_mask
        >>> from medseg.labels import Labels
        >>> grid = Geometry((4, 5, 6), np.diag([-1.0, -1.0, 2.5, 1.0]))
        >>> label_map = np.zeros(grid.shape, np.uint8)
        >>> label_map[1:3, 1:3, 1:3] = 1
        >>> segmented = LabelMapVolume(label_map, grid, Labels.from_names({"liver": 1}))
        >>> written = write_mask(format_named("seg-nrrd"), Path("ct.seg.nrrd"), segmented)
        >>> segmentation = read_segmentation("ct.seg.nrrd")
        >>> [(segment.name, int(segmentation.mask(segment).sum())) for segment in segmentation.segments]
        [('liver', 8)]
    """
    source = _segmentation_source(source)
    if source.kind == "coco":
        return read_coco(source.path, source.part, grid)
    planes = source_planes(image) if image is not None and image.kind == "dicom" else ()
    return SEGMENTATION_READERS[source.kind](source.path, grid, planes)


def segments_of(source: ImageSource | Path | str) -> tuple[SegmentHeader, ...]:
    """Reads what a segmentation says of its segments, without their voxels.

    Args:
        source: The segmentation, as for ``read_volume``; or the mask of one structure.

    Returns:
        Of each segment the number, name (unique and not empty), colour and codes.

    Raises:
        SourceError: The file cannot be read, or is no segmentation.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from medseg.io import Geometry, LabelMapVolume, format_named, segments_of, write_mask
        >>> from medseg.labels import Labels
        >>> grid = Geometry((4, 5, 6), np.diag([-1.0, -1.0, 2.5, 1.0]))
        >>> label_map = np.zeros(grid.shape, np.uint8)
        >>> label_map[1:3, 1:3, 1:3] = 1
        >>> segmented = LabelMapVolume(label_map, grid, Labels.from_names({"liver": 1}))
        >>> written = write_mask(format_named("seg-nrrd"), Path("ct.seg.nrrd"), segmented)
        >>> [segment.name for segment in segments_of("ct.seg.nrrd")]
        ['liver']
    """
    if isinstance(source, ImageSource) and source.structure:
        return (SegmentHeader(1, source.structure),)
    if isinstance(source, ImageSource) and source.kind == "coco":
        return coco_headers(source.path, source.part)
    source = _segmentation_source(source)
    return SEGMENT_READERS[source.kind](source.path)


def check_whole(source: ImageSource) -> None:
    """Checks that the files of an image are not cut short.

    Sizes tell it; voxels are read only where they leave it open.

    Raises:
        SourceError: A file is cut short, or damaged otherwise.
    """
    if source.kind in ("nifti", "pair"):
        check_whole_nifti(source.path)
    elif source.kind == "dicom":
        for path in _small(source.files):
            chosen = [i for i, file in enumerate(source.files) if file == path]
            frames = tuple(source.frames[i] for i in chosen) if source.frames else ()
            read_volume(replace(source, files=(path,) * len(chosen), frames=frames))


def _as_said(geometry: Geometry, source: ImageSource) -> Geometry:
    """Returns a grid with the voxel sizes that the user says, in place of those in the header.

    Raises:
        GeometryError: The image is DICOM.
    """
    if source.spacing is None:
        return geometry
    if source.kind == "dicom":
        raise GeometryError(
            f"{source.path}: is DICOM, whose slices say where they lie, and no spacing can be said in place of that; "
            "leave --spacing out, or give it in a cases.csv to those cases that need it (column spacing)"
        )
    return geometry.with_spacing(source.spacing)


def _source(source: ImageSource | Path | str) -> ImageSource:
    return source if isinstance(source, ImageSource) else source_of(Path(source))


def _segmentation_source(source: ImageSource | Path | str) -> ImageSource:
    source = _source(source)
    if source.kind not in (*SEGMENTATION_READERS, "coco"):
        raise SourceError(f"{source.path}: is an image, not a segmentation with named segments")
    return source


def _small(files: tuple[Path, ...]) -> list[Path]:
    """Returns the files that are smaller than their like (Tukey's fences, so that compressed ones may vary)."""
    sizes = {path: path.stat().st_size for path in files}
    if len(sizes) < 3:
        return []
    low, _, high = statistics.quantiles(sizes.values(), n=4, method="inclusive")
    fence = low - 1.5 * (high - low) - HEADER_BYTES
    return [path for path, size in sizes.items() if size < fence]
