"""The body in a prepared CT image, and the air around it, which the network need not be asked about."""

import numpy as np
import torch

from medseg.inferers.coarse_mask import CoarseMask, block_maxima, block_step
from medseg.plan import Grid, Normalization
from medseg.volume import Array

# Lungs and gas lie below it; they are found as holes.
BODY_HU = -500.0

# Windows that come as near to the body as that are asked about.
MARGIN_MM = 10.0

# Components smaller than both are noise: a volume, and a part of the largest one, for animals and samples.
SPECK_ML = 1.0
SPECK_PART = 1e-3

# In normalized units: far above float32's rounding, far below the noise of any scan.
ROUNDING = 1e-3


def body_mask(image: torch.Tensor, grid: Grid) -> CoarseMask | None:
    """Returns where the body is, with all that it encloses, and a margin.

    Args:
        image: ``(channel, x, y, z)`` on the model grid.
        grid: The model grid.

    Returns:
        None where air can't be told: in images that aren't CT in every channel, whose values the user's own transforms
        changed, or that hold no body at all.
    """
    return body_of_solid(solid_blocks(image, grid), grid) if tells_air(grid) else None


def tells_air(grid: Grid) -> bool:
    """Returns whether air can be told in images of a plan: in CT, whose values the user's transforms did not change."""
    return not grid.transforms and all(rule.kind == "ct" for rule in grid.normalization)


def solid_blocks(image: torch.Tensor, grid: Grid) -> Array:
    """Returns which blocks of ``block_step(grid.spacing)`` voxels hold some that are no air, bool.

    Args:
        image: ``(channel, x, y, z)``: an image of CT, or a part of it that begins where a block does.
        grid: The model grid.
    """
    step = block_step(grid.spacing)
    solid = np.zeros(0, dtype=bool)
    for channel, rule in zip(image, grid.normalization, strict=True):
        # Not "greater than": what is not a number is not air.
        own = ~(block_maxima(channel, step) <= _threshold(rule)).numpy()
        solid = solid | own if solid.size else own
    return solid


def body_of_solid(solid: Array, grid: Grid) -> CoarseMask | None:
    """Returns the body that ``solid_blocks`` of a whole image make, with all that it encloses, and a margin.

    Args:
        solid: ``(x, y, z)``, a voxel a block.
        grid: The model grid.
    """
    if not solid.any():
        return None
    step = block_step(grid.spacing)
    block_ml = float(np.prod(step) * np.prod(grid.spacing)) / 1000
    return CoarseMask(_filled(_without_specks(solid, block_ml)), step).dilated(MARGIN_MM, grid.spacing)


def even_air(image: torch.Tensor, grid: Grid) -> tuple[float, ...]:
    """Returns the value of each channel in air: the least that CT can have; in other images, the least that there is.

    Args:
        image: ``(channel, x, y, z)`` on the model grid.
        grid: The model grid.
    """
    least = image.amin((1, 2, 3)).tolist()
    rules = zip(grid.normalization, least, strict=True)
    return tuple((rule.lower - rule.mean) / rule.std if rule.kind == "ct" else value for rule, value in rules)


def _threshold(rule: Normalization) -> float:
    """Returns the normalized value above which a voxel is body; where the rule clips above it, all that is not
    clipped is."""
    return (max(BODY_HU, rule.lower) - rule.mean) / rule.std + ROUNDING


def _without_specks(solid: Array, block_ml: float) -> Array:
    from scipy.ndimage import label  # takes long to import

    components, n = label(solid, np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel(), minlength=n + 1)
    sizes[0] = 0
    large = sizes >= min(SPECK_ML / block_ml, SPECK_PART * sizes.max())
    large[0] = False
    kept: Array = large[components]
    return kept


def _filled(solid: Array) -> Array:
    """Fills the holes of the planes across each axis: lungs are open where the scan ends, but not in every plane."""
    from scipy.ndimage import binary_fill_holes  # takes long to import

    filled = solid.copy()
    for axis in range(3):
        planes = zip(np.moveaxis(filled, axis, 0), np.moveaxis(solid, axis, 0), strict=True)
        for result, plane in planes:
            result |= binary_fill_holes(plane)
    return filled
