"""Images of one place on different grids, brought to one grid."""

import numpy as np

from medseg.errors import GeometryError
from medseg.volume import Array, Geometry, Volume


def on_grid(volume: Volume, grid: Geometry) -> Volume:
    """The values of ``volume`` at the voxel centres of ``grid``, whatever the axes of the two, in floats.

    Linear between voxel centres (ITK's LinearInterpolateImageFunction). Out to half a voxel beyond the outermost
    centres the nearest value is taken, and further out the lowest value of the channel: the air around a patient.

    Raises ``GeometryError`` when no voxel of ``grid`` lies inside of ``volume``.
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


def _origin(geometry: Geometry) -> list[float]:
    origin: list[float] = geometry.affine[:3, 3].tolist()
    return origin


def _direction(geometry: Geometry) -> list[float]:
    direction: Array = geometry.affine[:3, :3] / np.asarray(geometry.spacing)
    return [float(cosine) for cosine in direction.ravel()]


def _overlap(volume: Geometry, grid: Geometry) -> bool:
    """Whether the boxes of the two meet, along the axes of ``volume``."""
    corners = np.array(np.meshgrid(*([-0.5, n - 0.5] for n in grid.shape))).reshape(3, 8).T
    index = volume.index(grid.world(corners))
    return bool((index.max(axis=0) > -0.5).all() and (index.min(axis=0) < np.array(volume.shape) - 0.5).all())
