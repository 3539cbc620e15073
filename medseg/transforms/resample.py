"""Resampling between two grids whose axes are parallel, one axis after the other.

It is exact about geometry: voxel centres are placed by the affines, so there is no "align corners" to choose. The
same function takes images to the model grid and logits back to the source grid.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from medseg.errors import GeometryError
from medseg.transforms.interpolation import Interpolation, resample_axis
from medseg.volume import Geometry, Spacing3

# Label maps are resampled to this many voxels at a time: few labels lie in one slab, and little memory is needed.
VOXELS_PER_SLAB = 2**22


def grid_with_spacing(geometry: Geometry, spacing: Spacing3) -> Geometry:
    """Returns the grid of another spacing that covers the same box.

    The outer faces of the first and last voxels stay in place.

    Args:
        geometry: The old grid.
        spacing: mm, in array-axis order. The new one differs a little from it where the box is no multiple of it.

    Examples:
        >>> import numpy as np
        >>> from medseg.volume import Geometry
        >>> grid_with_spacing(Geometry((10, 10, 5), np.diag([1.0, 1.0, 2.0, 1.0])), (2.0, 1.0, 1.0)).shape
        (5, 10, 10)
    """
    old = np.asarray(geometry.spacing)
    return grid_of_shape(geometry, np.rint(np.asarray(geometry.shape) * old / np.asarray(spacing)))


def grid_of_shape(geometry: Geometry, shape: npt.ArrayLike) -> Geometry:
    """Returns the grid of another shape that covers the same box.

    Args:
        geometry: The old grid.
        shape: Of the new one; an axis has at least one voxel.
    """
    x, y, z = (max(int(n), 1) for n in np.asarray(shape))
    scale = np.divide(geometry.shape, (x, y, z))  # old voxels a new voxel; not quite the spacing asked for
    to_old = np.diag([*scale, 1.0])
    to_old[:3, 3] = (scale - 1) / 2
    return Geometry((x, y, z), geometry.affine @ to_old)


def resample(
    array: torch.Tensor,
    source: Geometry,
    target: Geometry,
    interpolation: Interpolation = "linear",
    nearest: Sequence[int] = (),
) -> torch.Tensor:
    """Returns values at the voxel centres of another grid with parallel axes.

    Beyond the outermost voxel centres the nearest value is taken.

    Args:
        array: (channel, x, y, z) on ``source``, floats.
        source: Where it lies.
        target: Where values are wanted.
        interpolation: "nearest", "linear", "cubic" (Keys 1981, a = -0.5: exact for quadratics), or "spline" (the cubic
            B-spline through all samples, as SciPy's of order 3).
        nearest: Axes, 0 to 2, along which it is "nearest".

    Raises:
        GeometryError: The axes of the grids are not parallel (orient them first).

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from medseg.volume import Geometry
        >>> source = Geometry((4, 1, 1), np.eye(4))
        >>> target = grid_with_spacing(source, (2.0, 1.0, 1.0))
        >>> resample(torch.tensor([0.0, 2.0, 4.0, 6.0]).view(1, 4, 1, 1), source, target).flatten().tolist()
        [1.0, 5.0]
    """
    for axis, coordinates in enumerate(parallel_coordinates(source, target)):
        array = resample_axis(array, coordinates, axis + 1, "nearest" if axis in nearest else interpolation)
    return array


def resample_label_map(label_map: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
    """Returns a label map on another grid with parallel axes.

    Each label's mask is resampled linearly, and the largest share wins. No value appears that wasn't there, and borders
    stay smoother than with nearest neighbours.

    Args:
        label_map: ``(x, y, z)`` on ``source``, network values.
        source: Where it lies.
        target: Where labels are wanted.

    Raises:
        GeometryError: The axes of the grids are not parallel.
    """
    if source.difference(target) is None:
        return label_map
    x, y, z = parallel_coordinates(source, target)
    result = torch.empty(target.shape, dtype=label_map.dtype)
    thickness = max(1, VOXELS_PER_SLAB // (target.shape[0] * target.shape[1]))
    for start in range(0, target.shape[2], thickness):
        part = z[start : start + thickness]
        # The slices of the source between which this slab lies.
        low = min(max(int(part.min().floor()), 0), source.shape[2] - 1)
        high = max(int(part.max().floor()) + 2, low + 1)
        result[:, :, start : start + thickness] = _largest_share(label_map[:, :, low:high], (x, y, part - low))
    return result


def _largest_share(label_map: torch.Tensor, coordinates: Sequence[torch.Tensor]) -> torch.Tensor:
    best = torch.zeros([len(axis) for axis in coordinates])
    result = torch.zeros(best.shape, dtype=label_map.dtype)
    present = torch.bincount(label_map.flatten()).nonzero().flatten()
    for value in present.tolist():
        share = (label_map == value).float()
        for dim, axis in enumerate(coordinates):
            share = resample_axis(share, axis, dim)
        result[share > best] = value
        best = torch.maximum(best, share)
    return result


def orientation_along(grid: Geometry, source: Geometry) -> str:
    """Returns the orientation of a source whose axes are ordered as those of a grid that is parallel to it.

    It is that of ``grid``, but where axes lie at 45° between two directions, and rounding would decide.

    Raises:
        GeometryError: The axes of the grids are not parallel.
    """
    turned = np.linalg.inv(source.affine[:3, :3] / source.spacing) @ (grid.affine[:3, :3] / grid.spacing)
    axes = np.abs(turned).argmax(0)
    if len(set(axes.tolist())) != 3:
        raise GeometryError(f"grids with axes {source.orientation} and {grid.orientation} are not parallel")
    opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
    ends = [(source.orientation[axis], turned[axis, i] > 0) for i, axis in enumerate(axes)]
    return "".join(letter if forward else opposite[letter] for letter, forward in ends)


def parallel_coordinates(source: Geometry, target: Geometry) -> list[torch.Tensor]:
    """Returns for each axis the source indices of the target's voxel centres, float64, not rounded.

    Raises:
        GeometryError: The axes of the grids are not parallel.
    """
    to_source = np.linalg.solve(source.affine, target.affine)
    scale = np.diag(to_source)[:3]
    skew = to_source[:3, :3] - np.diag(scale)
    # A skew counts by how far it moves the last voxel.
    if np.abs(skew @ np.asarray(target.shape)).max() > 0.5:
        raise GeometryError(
            f"grids with axes {source.orientation} and {target.orientation} are not parallel; cannot resample"
        )
    return [
        torch.arange(n, dtype=torch.float64) * scale[axis] + to_source[axis, 3] for axis, n in enumerate(target.shape)
    ]
