"""One case from disk into memory, checked."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from medseg.dataset.cases import Case, LabelSource
from medseg.dataset.grid_mismatch import advice_off_grid
from medseg.dataset.label_values import fractional_values_message
from medseg.errors import GeometryError, LabelError, SourceError
from medseg.io.dicom.series import source_planes
from medseg.io.read import read_geometry, read_segmentation, read_volume
from medseg.io.segmentation import Segmentation
from medseg.io.source import ImageSource
from medseg.progress import counted
from medseg.transforms.grids import on_grid
from medseg.volume import GRID_TOLERANCE, Array, Geometry, Volume

MOST_COLOURS = 8
MOST_VALUES = 8  # in a message


class LabelMap(NamedTuple):
    """A label map ``(x, y, z)``, and notes on what was decided when it was read."""

    array: Array
    notes: tuple[str, ...] = ()


class Channel(NamedTuple):
    """An image of a case (one channel, or several of one file) on the grid of the case's first image."""

    source: ImageSource
    volume: Volume
    resampled: bool = False


def read_images(case: Case, tolerance: float, registered: bool = False) -> Volume:
    """Reads all channels of a case on the grid of the first one.

    Args:
        case: The case.
        tolerance: How far corners of grids may lie apart, as a fraction of the smallest voxel edge.
        registered: Whether images on other grids show one place, as the user says.

    Returns:
        Voxels ``(channel, x, y, z)``.

    Raises:
        GeometryError: Images lie on different grids that nothing connects.
        SourceError: An image cannot be read, or has values that aren't finite.
    """
    return stacked(read_channels(case, tolerance, registered))


def read_channels(case: Case, tolerance: float, registered: bool = False) -> list[Channel]:
    """Reads each image of a case, brought to the grid of the first one.

    Axes that are flipped or permuted are put in order. What lies on another grid is resampled where the images show one
    place: in DICOM that have one frame of reference, or when they are ``registered``.

    Args:
        case: The case.
        tolerance: How far corners of grids may lie apart, as a fraction of the smallest voxel edge.
        registered: Whether images on other grids show one place, as the user says.

    Raises:
        GeometryError: Images lie on different grids that nothing connects.
        SourceError: An image cannot be read, or has values that aren't finite.
    """
    first = _read_finite(case.images[0])
    channels = [Channel(case.images[0], first)]
    for source in case.images[1:]:
        volume = _read_finite(source)
        if volume.geometry.orientation != first.geometry.orientation:
            volume = volume.oriented_as(first.geometry.orientation)
        difference = first.geometry.difference(volume.geometry, tolerance)
        if difference is None:
            channels.append(Channel(source, volume))
        elif registered or have_one_frame(case.images[0], source):
            channels.append(Channel(source, _resampled(volume, first, case.images[0], source), resampled=True))
        else:
            raise GeometryError(
                f"{source.path} does not lie on the grid of {case.images[0].path}: {difference}; and nothing says that "
                "both show one place (DICOM with the same frame of reference would); if they are registered to each "
                "other, say so with --registered, and it is resampled to that grid"
            )
    return channels


def stacked(channels: Sequence[Channel]) -> Volume:
    """Returns all channels as one volume ``(channel, x, y, z)``."""
    volumes = [channel.volume for channel in channels]
    array = volumes[0].array if len(volumes) == 1 else np.concatenate([volume.array for volume in volumes])
    return Volume(array, volumes[0].geometry)


def read_label_map(case: Case, grid: Geometry, tolerance: float) -> LabelMap:
    """Reads the label map of a case, in the values of the file or in those that named segments were given.

    Args:
        case: The case, with a label.
        grid: That of the first image, axis order included.
        tolerance: How far corners of grids may lie apart, as a fraction of the smallest voxel edge.

    Returns:
        The label map ``(x, y, z)`` on ``grid``, and notes.

    Raises:
        GeometryError: It lies on another grid.
        LabelError: Its values aren't whole numbers.
    """
    if case.label is None:
        raise ValueError(f"{case.case_id} has no label map")
    if case.label.values is not None:
        return read_segments(case.label, grid, case.images[0], tolerance)
    (source,) = case.label.sources
    return LabelMap(label_map_on(grid, source, tolerance, case.images[0]))


def read_segments(
    label: LabelSource, grid: Geometry, image: ImageSource | None, tolerance: float = GRID_TOLERANCE
) -> LabelMap:
    """Returns named segments in the label values of their names, on ``grid``, which is that of the ``image``.

    Where segments overlap, the one with fewer voxels lies on top.

    Raises:
        MedsegError: What ``read_segmentation`` raises; of masks of one structure each those of ``one_structure`` too.
    """
    if label.sources[0].kind == "pictures":
        return LabelMap(_pictures_on(grid, label.sources[0], image, tolerance))
    if label.is_of_structures:
        return put_together(label, grid.shape, lambda source: _mask_on(grid, source, tolerance, image))
    if image is not None and image.spacing is not None:  # segments lie in the world of its header
        image = replace(image, spacing=None)
        grid = read_geometry(image)
    parts = [read_segmentation(source, grid, image) for source in label.sources]
    notes = tuple(note for part in parts for note in part.notes)
    return LabelMap(_merged(parts).label_map(label.values or {}), notes)


def put_together(label: LabelSource, shape: tuple[int, ...], read: Callable[[ImageSource], Array]) -> LabelMap:
    """Returns one label map ``(x, y, z)`` of the masks of single structures.

    Where they overlap, the one with fewer voxels lies on top: a core in its tumour. ``read`` gives each of them on the
    grid, boolean: one after the other, since there may be a hundred.
    """
    values = label.values or {}
    top = np.zeros(shape, np.uint16)  # number of the structure, from 1
    voxels = [top.size + 1]
    taken = [source for source in label.sources if source.structure in values]
    n_overlapping = 0
    for number, source in enumerate(taken, start=1):
        mask = read(source)
        below = top[mask]
        voxels.append(len(below))
        n_overlapping += int(np.count_nonzero(below))
        top[mask] = np.where(np.array(voxels)[below] > len(below), number, below)
    label_map: Array = np.array([0, *(values[source.structure] for source in taken)], np.int32)[top]
    overlap = f"structures overlap in {counted(n_overlapping, 'voxel')}: the one with fewer voxels lies on top"
    return LabelMap(label_map, (overlap,) if n_overlapping else ())


def one_structure(array: Array, source: ImageSource) -> Array:
    """Returns where the structure of ``source`` is drawn, boolean.

    Raises:
        LabelError: There is more than one value beside the background.
    """
    mask: Array = array != 0
    drawn = array[mask]
    if len(drawn) and (drawn != drawn[0]).any():
        values = ", ".join(map(str, np.unique(drawn)[:MOST_VALUES].tolist()))
        raise LabelError(
            f"{source.path}: is taken for the mask of one structure, '{source.structure}', but holds the values "
            f"{values}"
        )
    return mask


def label_volume(source: ImageSource) -> Volume:
    """Reads a label map on its own grid, with one channel.

    Raises:
        LabelError: Its values aren't whole numbers.
    """
    if source.path.suffix.lower() in (".jpg", ".jpeg"):
        raise LabelError(f"{source.path} is a JPEG, which blurs the values of labels; save the mask as PNG or TIFF")
    volume = read_volume(source)
    if len(volume.array) > 1:
        if not (volume.array == volume.array[:1]).all():
            raise LabelError(
                f"{source.path} has {len(volume.array)} channels{_colours(volume.array)}; make a label map of it, with "
                "one channel and another value for each structure"
            )
        volume = Volume(volume.array[:1], volume.geometry)
    if _not_finite(volume.array):
        raise LabelError(f"{source.path} holds values that are no numbers; is it an image, not a label map?")
    if volume.array.dtype.kind == "f" and not np.array_equal(volume.array, np.rint(volume.array)):
        raise LabelError(f"{source.path} {fractional_values_message(volume.array, source)}")
    return volume


def label_map_on(grid: Geometry, source: ImageSource, tolerance: float, image: ImageSource | None) -> Array:
    """Returns a label map, which has to lie on ``grid``, in the order of its axes: ``(x, y, z)``."""
    volume = label_volume(source)
    own = volume.geometry
    if volume.geometry.orientation != grid.orientation:
        volume = volume.oriented_as(grid.orientation)
    difference = grid.difference(volume.geometry, tolerance)
    if difference is not None:
        advice = "is it the mask of this image?" if image is None else advice_off_grid(image, source, (grid, own))
        raise GeometryError(f"{source.path} does not lie on the grid of its image: {difference}; {advice}")
    return volume.label_map


def _mask_on(grid: Geometry, source: ImageSource, tolerance: float, image: ImageSource | None) -> Array:
    """Returns the mask of one structure, boolean ``(x, y, z)``."""
    array = label_map_on(grid, source, tolerance, image)
    try:
        return one_structure(array, source)
    except LabelError as error:
        raise LabelError(f"{error}; pair it as a label map by --images and --labels") from error


def _pictures_on(grid: Geometry, source: ImageSource, image: ImageSource | None, tolerance: float) -> Array:
    """Returns a picture for each slice of a DICOM series as ``(x, y, z)``.

    Raises:
        GeometryError: The slices are not those of ``grid``, since they were resampled to it.
    """
    label_map = label_volume(source).label_map
    if label_map.shape != grid.shape:
        raise GeometryError(f"{source.path}: its pictures make {label_map.shape} voxels, its image has {grid.shape}")
    planes = source_planes(image) if image is not None and image.kind == "dicom" else []
    apart = [np.linalg.norm(plane.geometry.world((0, 0, 0)) - grid.world((0, 0, z))) for z, plane in enumerate(planes)]
    if max(apart, default=0) > tolerance * min(grid.spacing):
        raise GeometryError(
            f"{source.path}: its pictures are of slices that are tilted or uneven, and its image was resampled; make a "
            "label map in NIfTI of them"
        )
    return label_map


def _read_finite(source: ImageSource) -> Volume:
    volume = read_volume(source)
    bad = _not_finite(volume.array)
    if bad:
        raise SourceError(
            f"{source.path}: number of voxels that are NaN or infinite: {bad}; replace them, for instance by 0"
        )
    return volume


def have_one_frame(one: ImageSource, other: ImageSource) -> bool:
    """Says whether two images have one DICOM frame of reference, and so share coordinates (PS3.3, C.7.4.1)."""
    return one.frame_of_reference_uid == other.frame_of_reference_uid != ""


def _resampled(volume: Volume, first: Volume, first_source: ImageSource, source: ImageSource) -> Volume:
    try:
        return on_grid(volume, first.geometry)
    except GeometryError as error:
        raise GeometryError(
            f"{source.path} cannot be resampled to the grid of {first_source.path}: {error}; are they of one patient?"
        ) from error


def _merged(parts: Sequence[Segmentation]) -> Segmentation:
    """Returns segmentations on one grid as one, in layers of their own."""
    if len(parts) == 1:
        return parts[0]
    layers = tuple(layer for part in parts for layer in part.layers)
    starts = np.cumsum([0, *(len(part.layers) for part in parts)])
    segments = tuple(
        replace(segment, layer=int(start) + segment.layer)
        for start, part in zip(starts, parts, strict=False)
        for segment in part.segments
    )
    return Segmentation(parts[0].geometry, layers, segments)


def _colours(array: Array) -> str:
    """Returns in words the colours of a mask in which each structure has one."""
    colours, counts = np.unique(array.reshape(len(array), -1), axis=1, return_counts=True)
    if array.dtype != np.uint8 or len(counts) > MOST_COLOURS:
        return ""
    named = [f"#{bytes(colour).hex()} ({n} pixels)" for colour, n in zip(colours.T, counts, strict=True)]
    return f" with the colours {', '.join(named)}"


def _not_finite(array: Array) -> int:
    if not np.issubdtype(array.dtype, np.floating):
        return 0
    return int(array.size - np.isfinite(array).sum())
