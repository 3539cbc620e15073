"""One case from disk into memory, checked."""

import numpy as np

from medseg.dataset.cases import Case
from medseg.errors import GeometryError, LabelError, SourceError
from medseg.io.read import read_volume
from medseg.io.source import ImageSource
from medseg.volume import Array, Volume


def read_images(case: Case, tolerance: float) -> Volume:
    """All channels of the case on their common grid.

    Raises ``GeometryError`` when the images lie on different grids, ``SourceError`` for values that aren't finite.
    """
    volumes = [read_volume(source) for source in case.images]
    first = volumes[0]
    for source, volume in zip(case.images[1:], volumes[1:], strict=True):
        difference = first.geometry.difference(volume.geometry, tolerance)
        if difference is not None:
            raise GeometryError(
                f"{source.path} does not lie on the grid of {case.images[0].path}: {difference}; resample it to "
                "that grid first"
            )
    for source, volume in zip(case.images, volumes, strict=True):
        bad = _not_finite(volume.array)
        if bad:
            raise SourceError(
                f"{source.path}: number of voxels that are NaN or infinite: {bad}; replace them, for instance by 0"
            )
    array = first.array if len(volumes) == 1 else np.concatenate([volume.array for volume in volumes])
    return Volume(array, first.geometry)


def read_label_map(source: ImageSource, image: Volume, tolerance: float) -> Array:
    """The label map (x, y, z), in the values of the file, on the grid and in the axis order of the image.

    Raises ``GeometryError`` when it lies on another grid, ``LabelError`` when its values aren't whole numbers.
    """
    if source.path.suffix.lower() in (".jpg", ".jpeg"):
        raise LabelError(f"{source.path} is a JPEG, which blurs the values of labels; save the mask as PNG or TIFF")
    volume = read_volume(source)
    if len(volume.array) > 1:
        if not (volume.array == volume.array[:1]).all():
            raise LabelError(
                f"{source.path} has {len(volume.array)} channels; make a label map of it, with one channel and "
                "another value for each structure"
            )
        volume = Volume(volume.array[:1], volume.geometry)
    if volume.geometry.orientation != image.geometry.orientation:
        volume = volume.oriented_as(image.geometry.orientation)
    difference = image.geometry.difference(volume.geometry, tolerance)
    if difference is not None:
        raise GeometryError(
            f"{source.path} does not lie on the grid of its image: {difference}; is it the mask of this image? "
            "If so, 'medseg export MASK -o FILE --like IMAGE' brings it there"
        )
    label_map = volume.label_map
    whole = label_map.dtype.kind != "f" or np.array_equal(label_map, np.rint(label_map))
    if _not_finite(label_map) or not whole:
        raise LabelError(f"{source.path} holds values that are not whole numbers; is it an image, not a label map?")
    return label_map


def _not_finite(array: Array) -> int:
    if not np.issubdtype(array.dtype, np.floating):
        return 0
    return int(array.size - np.isfinite(array).sum())
