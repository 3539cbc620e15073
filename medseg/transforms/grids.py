"""Images and label maps on grids whose axes are not parallel: channels of one examination, and sheared volumes.

Some converters write sheared grids for CT of a tilted gantry. Networks and most viewers need right angles, so such
a volume goes to an orthogonal grid first. (DICOM of a tilted gantry never comes here: ``medseg.io`` reads it on an
orthogonal grid.)
"""

import numpy as np

from medseg.errors import GeometryError
from medseg.volume import Array, Geometry, Volume


def on_grid(volume: Volume, grid: Geometry) -> Volume:
    """Returns the values of a volume at the voxel centres of another grid, whatever the axes of the two.

    Linear between voxel centres (ITK's LinearInterpolateImageFunction). Out to half a voxel beyond the outermost
    centres the nearest value is taken, and further out the lowest value of the channel: the air around a patient.

    Args:
        volume: Of any number of channels, each resampled alone.
        grid: Where values are wanted.

    Returns:
        Floats (channel, x, y, z) on ``grid``.

    Raises:
        GeometryError: No voxel of ``grid`` lies inside of ``volume``.

    Examples:
        >>> import numpy as np
        >>> from medseg.volume import Geometry, Volume
        >>> volume = Volume(np.arange(4.0).reshape(1, 4, 1, 1), Geometry((4, 1, 1), np.eye(4)))
        >>> half = np.diag([0.5, 1.0, 1.0, 1.0])
        >>> on_grid(volume, Geometry((5, 1, 1), half)).array.ravel().tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    import SimpleITK as sitk

    if not _overlap(volume.geometry, grid):
        raise GeometryError("nothing of it lies inside of that grid")
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetSize(grid.shape)
    # ITK calls its world LPS, but computes with any: here it is RAS on both sides.
    resampler.SetOutputOrigin(_origin(grid))
    resampler.SetOutputSpacing(grid.spacing)
    resampler.SetOutputDirection(_direction(grid))
    channels = []
    for channel in volume.array:
        image = sitk.GetImageFromArray(np.ascontiguousarray(channel.T, dtype=np.result_type(channel, np.float32)))
        image.SetOrigin(_origin(volume.geometry))
        image.SetSpacing(volume.geometry.spacing)
        image.SetDirection(_direction(volume.geometry))
        resampler.SetDefaultPixelValue(float(channel.min()))
        channels.append(sitk.GetArrayFromImage(resampler.Execute(image)).T)
    return Volume(np.stack(channels), grid)


def orthogonal_grid(geometry: Geometry) -> Geometry:
    """Returns the smallest orthogonal grid over all voxel centres of a sheared one.

    It keeps the first axis, the first plane, and the distances between planes.

    Examples:
        >>> import numpy as np
        >>> from medseg.volume import Geometry
        >>> sheared = np.eye(4)
        >>> sheared[1, 2] = 0.5
        >>> orthogonal_grid(Geometry((8, 8, 8), sheared)).shape
        (8, 12, 8)
    """
    first, second, third = geometry.affine[:3, :3].T
    x = first / np.linalg.norm(first)
    y = _unit(second - (second @ x) * x)
    z = _unit(third - (third @ x) * x - (third @ y) * y)
    axes = np.stack([x, y, z], axis=1)
    spacing = np.array([first @ x, second @ y, third @ z])
    corners = np.array(np.meshgrid(*([0, n - 1] for n in geometry.shape))).reshape(3, 8).T
    # Of the corners, in voxels of the new grid from the first voxel of the old one.
    places = (geometry.world(corners) - geometry.affine[:3, 3]) @ axes / spacing
    low = np.floor(places.min(axis=0) + 1e-6)
    columns, rows, slices = (int(n) for n in np.ceil(places.max(axis=0) - low - 1e-6) + 1)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = geometry.affine[:3, 3] + affine[:3, :3] @ low
    return Geometry((columns, rows, slices), affine)


def label_map_on_grid(label_map: Array, source: Geometry, target: Geometry) -> Array:
    """Returns a label map on another grid, whatever the axes of the two.

    Each voxel gets the label at its place in the world (nearest neighbour, so that values are never mixed).

    Args:
        label_map: (x, y, z) on ``source``, of any type.
        source: Where it lies.
        target: Where it is wanted.

    Returns:
        Labels (x, y, z) on ``target``, of the same type; 0 outside of ``source``.
    """
    from scipy.ndimage import affine_transform  # takes long to import

    to_source = np.linalg.inv(source.affine) @ target.affine
    resampled: Array = affine_transform(
        label_map, to_source, output_shape=target.shape, order=0, mode="grid-constant", prefilter=False
    )
    return resampled


def _origin(geometry: Geometry) -> list[float]:
    origin: list[float] = geometry.affine[:3, 3].tolist()
    return origin


def _direction(geometry: Geometry) -> list[float]:
    direction: Array = geometry.affine[:3, :3] / np.asarray(geometry.spacing)
    return [float(cosine) for cosine in direction.ravel()]


def _overlap(volume: Geometry, grid: Geometry) -> bool:
    """Returns whether the boxes of the two meet, along the axes of ``volume``."""
    corners = np.array(np.meshgrid(*([-0.5, n - 0.5] for n in grid.shape))).reshape(3, 8).T
    index = volume.index(grid.world(corners))
    return bool((index.max(axis=0) > -0.5).all() and (index.min(axis=0) < np.array(volume.shape) - 0.5).all())


def _unit(vector: Array) -> Array:
    unit: Array = vector / np.linalg.norm(vector)
    return unit
