"""The grid of an image as its user knows it, beside that of the same voxels along the axes of the model grid."""

import numpy as np
import numpy.typing as npt
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from medseg.interactive.bounds import Bounds, bounds_around, slices
from medseg.interactive.object_mask import MaskChange, ObjectMask
from medseg.transforms.grids import label_map_on_grid, orthogonal_grid
from medseg.transforms.interpolation import resample_axis
from medseg.transforms.resample import orientation_along, parallel_coordinates
from medseg.volume import SHEAR_TOLERANCE, Geometry, MaskArray, Shape3


class SourceGrid:
    """Brings masks from the grid of an image to the same voxels with the axes of the model grid, and back.

    A sheared image has no such voxels: its masks are kept on the smallest orthogonal grid around it, as ``predict``
    does.

    Attributes:
        source: The grid of the image.
        geometry: The voxels with the axes of the model grid, on which masks are kept.

    Examples:
        >>> from medseg.volume import Geometry
        >>> lps, ras = Geometry((4, 5, 6), np.diag([-1.0, -1.0, 2.0, 1.0])), Geometry((4, 5, 12), np.eye(4))
        >>> grid = SourceGrid(lps, ras)
        >>> mask = grid.kept(np.ones((1, 1, 2), dtype=bool), (0, 0, 3))
        >>> mask.bounds, grid.change(mask, ObjectMask()).bounds
        (((3, 4), (4, 5), (3, 5)), ((0, 1), (0, 1), (3, 5)))
    """

    def __init__(self, source: Geometry, model_grid: Geometry) -> None:
        """Finds the axes.

        Args:
            source: The grid of the image.
            model_grid: That of the image as the network sees it.

        Raises:
            GeometryError: Their axes are not parallel.
        """
        self.source = source
        self._upright = orthogonal_grid(source) if source.shear > SHEAR_TOLERANCE else source
        orientation = orientation_along(model_grid, self._upright)
        self.geometry = self._upright.oriented_as(orientation)
        own, kept = io_orientation(self._upright.affine), axcodes2ornt(tuple(orientation))
        self._there, self._back = ornt_transform(own, kept), ornt_transform(kept, own)

    @property
    def is_sheared(self) -> bool:
        """Whether some axes of the source's grid do not meet at right angles."""
        return self._upright is not self.source

    def kept(self, mask: MaskArray, origin: Shape3 = (0, 0, 0)) -> ObjectMask:
        """Returns a mask of the source as it is kept: with axes like those of the model grid.

        Args:
            mask: ``(x, y, z)``, a part of the source.
            origin: Its first voxel.
        """
        x, y, z = ((low, low + n) for low, n in zip(origin, mask.shape, strict=True))
        part = ObjectMask().with_part((x, y, z), mask)
        if self.is_sheared:
            whole = label_map_on_grid(part.whole(self.source.shape).astype(np.uint8), self.source, self._upright)
            part = _cut(whole.astype(bool))
        return _turned(part, self._upright.shape, self._there)

    def whole(self, mask: ObjectMask) -> MaskArray:
        """Returns a mask that is kept on the grid of the source, ``(x, y, z)``."""
        whole = _turned(mask, self.geometry.shape, self._back).whole(self._upright.shape)
        if not self.is_sheared:
            return whole
        on_source: MaskArray = label_map_on_grid(whole.astype(np.uint8), self._upright, self.source).astype(bool)
        return on_source

    def change(self, now: ObjectMask, before: ObjectMask) -> MaskChange:
        """Returns where two masks that are kept differ on the grid of the source, and what is there ``now``."""
        if self.is_sheared:
            return _cut(self.whole(now)).change_from(_cut(self.whole(before)))
        change = now.change_from(before)
        if change.is_empty:
            return change
        turned = _turned(ObjectMask(change.bounds, change.mask), self.geometry.shape, self._back)
        return MaskChange(turned.bounds, turned.voxels)

    def seen(self, mask: ObjectMask, grid: Geometry) -> torch.Tensor:
        """Returns a mask that is kept on another grid, bool ``(x, y, z)``: what the nearest voxel has.

        Args:
            mask: The mask.
            grid: A part of the model grid, or a coarser one with its axes.
        """
        result, inside, indices = torch.zeros(grid.shape, dtype=torch.bool), [], []
        for along, (low, high) in zip(parallel_coordinates(self.geometry, grid), mask.bounds, strict=True):
            index = along.round().long() - low
            inside.append(torch.nonzero((index >= 0) & (index < high - low)).flatten())
            indices.append(index[inside[-1]].numpy())
        x, y, z = inside
        result[x[:, None, None], y[:, None], z] = torch.from_numpy(mask.voxels[np.ix_(*indices)])
        return result

    def with_logits(self, mask: ObjectMask, logits: torch.Tensor, grid: Geometry) -> ObjectMask:
        """Returns a mask that is kept with another part: where logits, interpolated linearly, are above 0.

        Args:
            mask: The mask.
            logits: ``(x, y, z)`` on ``grid``; beyond it the mask stays as it is.
            grid: A part of the model grid, or a coarser one with its axes.
        """
        places = parallel_coordinates(grid, self.geometry)
        inside = [_between(along, -0.5, n - 0.5) for along, n in zip(places, grid.shape, strict=True)]
        mask = mask.without(_ends(inside))
        found = bounds_around((logits > 0).numpy())
        if found is None:
            return mask
        # Nothing is in the mask but around those voxels.
        near = [_between(along, low - 1, high) for along, (low, high) in zip(places, found, strict=True)]
        voxels = [each[torch.isin(each, of_window)] for each, of_window in zip(near, inside, strict=True)]
        if not all(len(each) for each in voxels):
            return mask
        for axis, each in enumerate(voxels):
            logits = resample_axis(logits, places[axis][each], axis)
        return mask.with_part(_ends(voxels), (logits > 0).numpy())


def _between(along: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Returns the indices of the voxels that lie between two places."""
    return torch.nonzero((along > low) & (along < high)).flatten()


def _ends(indices: list[torch.Tensor]) -> Bounds:
    """Returns the bounds of voxels, given along each axis."""
    x, y, z = ((int(each[0]), int(each[-1]) + 1) if len(each) else (0, 0) for each in indices)
    return x, y, z


def _cut(whole: MaskArray) -> ObjectMask:
    """Returns the mask of a whole image, cut to what it holds."""
    bounds = bounds_around(whole)
    if bounds is None:
        return ObjectMask()
    return ObjectMask(bounds, np.ascontiguousarray(whole[slices(bounds)]))


def _turned(mask: ObjectMask, shape: Shape3, change: npt.NDArray[np.float64]) -> ObjectMask:
    """Returns a mask of an image of this shape with its axes flipped and permuted, as nibabel says it."""
    ends: list[tuple[int, int]] = [(0, 0)] * 3
    for (low, high), n, (axis, direction) in zip(mask.bounds, shape, change, strict=True):
        ends[int(axis)] = (low, high) if direction > 0 else (n - high, n - low)
    x, y, z = ends
    return ObjectMask((x, y, z), np.ascontiguousarray(apply_orientation(mask.voxels, change)))
