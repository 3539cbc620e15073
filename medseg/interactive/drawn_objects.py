"""Objects that are drawn into a training image: what nobody annotated in any, and nobody has seen before."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from medseg.interactive.mask_geometry import picked, smoothed
from medseg.volume import Array

HALF_AXES = (0.08, 0.35)  # of the ellipsoid, as parts of the patch's edges
FLATTEST = 0.4  # each half axis is at least this part of the one that was drawn for its edge
BUMPS = (0.0, 0.6)  # how far its surface goes in and out, as part of its radius
BUMP_GRID = (3, 7)  # values along an edge of the patch, between which the bumps are interpolated
OTHER_VALUE = 0.35  # standard deviations of the patch, by which it differs from the tissue whose value it takes
TEXTURE = (0.5, 1.5)  # of the noise that was there, how much there is in it
LEVELS = (0.01, 0.99)  # quantiles of a patch, between which the value of a seed is drawn
NEAR = 0.05  # of the distance of these: voxels with about that value


@dataclass(frozen=True)
class DrawnObject:
    """An object, and the image with it.

    Attributes:
        mask: Where it is, bool ``(x, y, z)``.
        image: ``(channel, x, y, z)``.
    """

    mask: torch.Tensor
    image: torch.Tensor


def drawn_object(image: torch.Tensor, random: np.random.Generator) -> DrawnObject:
    """Returns an image with a smooth object in it that was not there.

    It is an ellipsoid with bumps, as bright as some other tissue of the image or a little more or less, with the noise
    of the place where it lies and a border of partial volume. A network that has to find these segments what it has no
    label for by its border, and not by knowing it.

    Source: Billot et al. 2023, doi:10.1016/j.media.2023.102789 (training on drawn contrasts); Dey et al. 2024,
    arXiv:2307.07044 (AnyStar: random blobs, drawn, for structures of any kind).

    Args:
        image: ``(channel, x, y, z)``.
        random: All that is drawn comes from it.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> image = torch.rand(1, 16, 16, 16)
        >>> drawn = drawn_object(image, np.random.default_rng(0))
        >>> changed = (drawn.image != image)[0]
        >>> bool(changed[drawn.mask].all()), bool(changed.all())
        (True, False)
    """
    values = image.float()
    plain = torch.stack([smoothed(channel) for channel in values])
    everywhere = torch.ones(image.shape[1:], dtype=torch.bool, device=image.device)
    centre = seed_of(plain[random.integers(len(image))], everywhere, random)
    mask = _blob(image.shape[1:], centre, random).to(image.device)
    x, y, z = seed_of(plain[0], everywhere, random)
    level = plain[:, x, y, z]
    scale = values.flatten(1).std(1)
    level = level + scale * torch.from_numpy(random.normal(0, OTHER_VALUE, len(image))).to(values)
    inside = level.view(-1, 1, 1, 1) + (values - plain) * float(random.uniform(*TEXTURE))
    share = torch.maximum(smoothed(mask.float()), 0.5 * mask)  # partial volume; at least a half of each of its voxels
    return DrawnObject(mask, (values + share * (inside - values)).to(image.dtype))


def seed_of(values: torch.Tensor, allowed: torch.Tensor, random: np.random.Generator) -> tuple[int, ...]:
    """Returns a voxel of about a value that is drawn evenly between dark and bright.

    Drawn evenly among all voxels it would mostly be one of the air around a body.

    Args:
        values: ``(x, y, z)``.
        allowed: Where it may lie, bool ``(x, y, z)``, not empty.
        random: All that is drawn comes from it.
    """
    own = values[allowed].cpu()
    low, high = (float(each) for each in np.quantile(own.numpy(), LEVELS))
    level = float(random.uniform(low, high)) if high > low else low
    near = allowed & ((values - level).abs() <= NEAR * (high - low))
    return picked((near if bool(near.any()) else allowed).float(), float(random.random()))


def _blob(shape: torch.Size, centre: tuple[int, ...], random: np.random.Generator) -> torch.Tensor:
    """Returns an ellipsoid with bumps, turned at random, bool ``(x, y, z)``."""
    edges = np.array(shape, dtype=float)
    thick = edges > 1
    turn = _rotation(thick, random)
    half = random.uniform(*HALF_AXES) * edges * random.uniform(FLATTEST, 1, 3)
    places = np.stack(np.meshgrid(*(np.arange(n) - at for n, at in zip(shape, centre, strict=True)), indexing="ij"), -1)
    radius = np.linalg.norm((places @ turn) / np.where(thick, np.maximum(half, 1.0), 1.0), axis=-1)
    n = [int(random.integers(*BUMP_GRID)) if each else 1 for each in thick]
    bumps = torch.from_numpy(random.uniform(-1, 1, n))[None, None]
    fine = functional.interpolate(bumps, tuple(shape), mode="trilinear", align_corners=True)[0, 0]
    return torch.from_numpy(radius) < 1 + fine * float(random.uniform(*BUMPS))


def _rotation(thick: Array, random: np.random.Generator) -> Array:
    """Returns a rotation drawn evenly, ``(3, 3)``; of an image of one slice, in its plane."""
    turn = np.eye(3)
    axes = np.flatnonzero(thick)
    q, r = np.linalg.qr(random.normal(size=(len(axes), len(axes))))
    turn[np.ix_(axes, axes)] = q * np.sign(np.diag(r))
    return turn
