"""The model grid of a case: where it lies by the rule of its plan, and how values come to it and back.

medseg's own rule is exact about geometry and fast. The others are those of programs whose models are imported, and give
the same numbers as these programs, or scikit-image and SciPy, which they call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch

from medseg.errors import GeometryError
from medseg.plan import MEDSEG_RESAMPLING, Grid, Resampling
from medseg.transforms.interpolation import NearestAxes, resample_axis
from medseg.transforms.resample import grid_of_shape, grid_with_spacing, parallel_coordinates
from medseg.volume import Geometry, Spacing3

# nnU-Net: voxels that are more than so many times as long as wide are resampled plane by plane.
ANISOTROPIC = 3.0

# MONAI: spacings that are no further apart, in mm, are the same.
SAME_SPACING_MM = 1e-3

# Shares of a voxel that are no further apart are equal, but for rounding.
SAME_SHARE = 1e-6

# Of a model grid: more do not fit into any memory.
MOST_VOXELS = 2**38

Wanted = Sequence[float | None]


@dataclass(frozen=True)
class ModelGridRule:
    """How cases come to a spacing.

    Args:
        spacing: Edges of a voxel in mm, in array-axis order; None along axes that keep their own.
        resampling: By whose rule.
        masks: Channels that are masks of labels: a voxel has that of which it has most, or none.

    Examples:
        >>> import numpy as np
        >>> from medseg.plan import MEDSEG_RESAMPLING, Grid, Resampling
        >>> from medseg.volume import Geometry
        >>> source = Geometry((10, 10, 10), np.eye(4))
        >>> [ModelGridRule((2, 2, None), Resampling(rule=rule)).grid_of(source).shape for rule in ("nnunet", "monai")]
        [(5, 5, 10), (6, 6, 10)]
    """

    spacing: Wanted
    resampling: Resampling = MEDSEG_RESAMPLING
    masks: tuple[int, ...] = ()

    @classmethod
    def of(cls, grid: Grid) -> "ModelGridRule":
        """Returns the rule of a plan's grid."""
        return cls(grid.wanted_spacing, grid.resampling, mask_channels(grid))

    def grid_of(self, source: Geometry) -> Geometry:
        """Returns the model grid of a case; the very ``source`` where nothing is to be resampled.

        Args:
            source: The oriented grid of the case, cropped or not.

        Raises:
            GeometryError: It would have more voxels than any memory holds.
        """
        target = self._grid_of(source)
        if prod(target.shape) > MOST_VOXELS:
            edges = "×".join(f"{mm:g}" for mm in self.spacing_of(source))
            raise GeometryError(
                f"of {prod(target.shape):.1e} voxels at the {edges} mm of the model, which cannot be right"
            )
        same = target.shape == source.shape and np.allclose(target.affine, source.affine, rtol=0, atol=1e-6)
        return source if same else target

    def _grid_of(self, source: Geometry) -> Geometry:
        spacing, rule = self.spacing_of(source), self.resampling.rule
        if rule == "medseg":
            return grid_with_spacing(source, spacing)
        edges = list(zip(source.shape, source.spacing, spacing, strict=True))
        if rule == "nnunet":  # in the order of its operations, as halves are rounded to even numbers
            return grid_of_shape(source, [_rounded(old / new * n) for n, old, new in edges])
        if rule == "monai":
            shape = [round((n - 1) * old / new + 1) for n, old, new in edges]
            return _from_first_voxel(source, shape, [new / old for _, old, new in edges])
        shape = [max(1, _rounded(n * (old / new))) for n, old, new in edges]
        ends = zip(source.shape, shape, edges, strict=True)
        scale = [(n - 1) / (m - 1) if min(n, m) > 1 else new / old for n, m, (_, old, new) in ends]
        return _from_first_voxel(source, shape, scale)

    def spacing_of(self, source: Geometry) -> Spacing3:
        """Returns the spacing that is wanted of a case, in mm: the model grid has it up to whole voxels."""
        same = SAME_SPACING_MM if self.resampling.rule == "monai" else 0.0
        x, y, z = (
            own if wanted is None or abs(own - wanted) <= same else float(wanted)
            for own, wanted in zip(source.spacing, self.spacing, strict=True)
        )
        return x, y, z

    def images_on(self, images: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
        """Returns images on the model grid.

        Args:
            images: ``(channel, x, y, z)`` on ``source``, floats. Masks are 0 and 1, and -1 where they are to have no
                label while they are resampled, and 0 then.
            source: The oriented grid of the case, cropped or not.
            target: What ``grid_of`` gave for it.
        """
        by, masks = self.resampling, list(self.masks)
        if masks and target is source:
            images = images.clone()
            images[masks] = images[masks].clamp(min=0)
        elif masks:
            others = [i for i in range(len(images)) if i not in masks]
            result = images.new_empty(len(images), *target.shape)
            result[masks] = self._masks_on(images[masks], source, target)
            result[others] = replace(self, masks=()).images_on(images[others], source, target)
            return result
        if target is not source:
            separate = self.separate_axis(source.spacing, self.spacing_of(source))
            splines = by.interpolation == "cubic" and by.rule != "medseg"
            clipped = splines and by.rule == "nnunet"
            bounds = _bounds(images, separate) if clipped else None
            for axis, places in enumerate(parallel_coordinates(source, target)):
                how = "nearest" if axis == separate else "spline" if splines else by.interpolation
                images = resample_axis(images, places, axis + 1, how)
                if bounds is not None and axis == separate:
                    bounds = [resample_axis(bound, places, axis + 1, how) for bound in bounds]
            images = images if bounds is None else images.clamp(*bounds)
        return images.trunc() if by.whole_numbers else images

    def _masks_on(self, masks: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
        """Returns masks that do not overlap on the model grid, as nnU-Net resamples a label map.

        Of the labels, of what has none, and of what lies outside (-1), each voxel has that of which it has most, by
        linear interpolation; where several have as much, that of the nearest voxel if it is one of these, else the
        first (batchgenerators 0.25.5, ``resize_segmentation``).
        """
        linear, nearest = (
            replace(self, resampling=self.resampling.model_copy(update={"interpolation": how}), masks=())
            for how in ("linear", "nearest")
        )
        outside, masks = (masks < 0).all(0, keepdim=True).to(masks), masks.clamp(min=0)
        every = torch.cat([outside, 1 - outside - masks.sum(0, keepdim=True), masks])
        shares = linear.images_on(every, source, target)
        most = shares >= shares.amax(0) - SAME_SHARE
        first, next_to = (each.to(torch.uint8).argmax(0) for each in (most, nearest.images_on(every, source, target)))
        winner = torch.where(most.gather(0, next_to[None])[0], next_to, first)
        return torch.stack([winner == label for label in range(2, len(every))]).to(masks)

    def separate_axis(self, current: Spacing3, new: Spacing3) -> int | None:
        """Returns the axis along which the nearest slice is taken when a case is resampled from one spacing to another.

        None: no axis is separate. This is nnU-Net's rule (``determine_do_sep_z_and_axis``).

        Args:
            current: Edges of a voxel in mm.
            new: The edges that are wanted.
        """
        if self.resampling.rule != "nnunet" or self.resampling.separate_z is False:
            return None
        if self.resampling.separate_z:
            return _longest(current)
        anisotropic = next((each for each in (current, new) if max(each) / min(each) > ANISOTROPIC), None)
        return None if anisotropic is None else _longest(anisotropic)

    def nearest_axes_back(self, source: Geometry) -> NearestAxes:
        """Returns the axes along which the nearest voxel is taken on the way back to a case; linear along others.

        Args:
            source: The oriented grid of the case.
        """
        if self.resampling.restored == "labels":
            return NearestAxes((0, 1, 2), by_grid_sample=self.resampling.rule == "monai")
        separate = self.separate_axis(self.spacing_of(source), source.spacing)
        return NearestAxes() if separate is None else NearestAxes((separate,))


def mask_channels(grid: Grid) -> tuple[int, ...]:
    """Returns the channels that are masks."""
    return tuple(i for i, rule in enumerate(grid.normalization) if rule.kind == "mask")


def _rounded(voxels: float) -> int:
    """Returns a whole number of voxels; halves go to the even one.

    A half stays one where spacings come from the float32 of an affine, and other programs take those of the header: 35
    voxels of 1 mm, tilted, are 17.499999 of 2 mm.
    """
    return round(round(voxels, 4))


def _longest(spacing: Spacing3) -> int | None:
    """Returns the axis of the largest spacing; None where several have it."""
    axes = [axis for axis, mm in enumerate(spacing) if max(spacing) / mm == 1]
    return axes[0] if len(axes) == 1 else None


def _bounds(images: torch.Tensor, separate: int | None) -> list[torch.Tensor]:
    """Returns the lowest and the highest value of each channel, or of each slice across the separate axis."""
    axes = [axis + 1 for axis in range(3) if axis != separate]
    return [images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)]


def _from_first_voxel(source: Geometry, shape: Sequence[int], scale: Sequence[float]) -> Geometry:
    """Returns a grid with the first voxel of another one, and voxels ``scale`` times as long."""
    x, y, z = shape
    return Geometry((x, y, z), source.affine @ np.diag([*scale, 1.0]))
