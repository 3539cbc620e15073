"""The objects that training points at: labels, unions and parts of them, what an image itself sets apart, and things
that are drawn into it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medseg.interactive.drawn_objects import drawn_object, seed_of
from medseg.interactive.mask_geometry import connected_to, picked, smoothed
from medseg.labels import IGNORED

# What is drawn where objects may be anything, of those that a patch has.
KINDS = {"structure": 0.35, "union": 0.05, "part": 0.1, "region of the image": 0.2, "drawn into the image": 0.3}
LEAST_VOXELS = 12  # of an object on a patch
MOST_OF_A_PATCH = 0.4  # of a region of the image
TRIES = 3
# A region of the image: how far its smoothed values are from that of its seed, in standard deviations of the patch,
# and how far its voxels are, as part of the longest edge.
TOLERANCE = (0.15, 0.7)
REACH = (0.1, 0.5)


@dataclass(frozen=True)
class TargetObject:
    """What a simulated user points at.

    Attributes:
        mask: Bool ``(x, y, z)``.
        values: The network values of the structure that it is; () where it is none.
        image: ``(channel, x, y, z)``, with the object in it; None: as it was.
    """

    mask: torch.Tensor
    values: tuple[int, ...] = ()
    image: torch.Tensor | None = None


class TargetObjects:
    """Draws an object of a patch.

    Args:
        regions: The network values of each region, which is a structure as each label is.
        anything: Whether objects may be unions and parts of them, regions that only the image sets apart, and things
            that are drawn into it. A region lies where no label is, so that a point in a structure means that
            structure.

    Source: Isensee et al. 2025, arXiv:2503.08373 (pseudo-objects beside labels); the regions grow from a seed as in
    Adams and Bischof 1994, doi:10.1109/34.295913; see ``drawn_object`` for what is drawn.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> label = torch.zeros(8, 8, 8, dtype=torch.uint8)
        >>> label[2:6, 2:6, 2:6] = 2
        >>> objects = TargetObjects([], anything=False)
        >>> objects.drawn(torch.rand(1, 8, 8, 8), label, np.random.default_rng(0)).values
        (2,)
    """

    def __init__(self, regions: Sequence[tuple[int, ...]], anything: bool) -> None:
        self.regions = [values for values in regions if len(values) > 1]
        self.anything = anything

    def drawn(self, image: torch.Tensor, label: torch.Tensor, random: np.random.Generator) -> TargetObject | None:
        """Returns an object of a patch; None where it has none.

        Args:
            image: ``(channel, x, y, z)``.
            label: Network values ``(x, y, z)``, uint8; 255 where nobody annotated.
            random: All that is drawn comes from it.
        """
        counts = torch.bincount(label.flatten(), minlength=256).tolist()
        structures = [*((value,) for value in range(1, IGNORED)), *self.regions]
        there = [values for values in structures if sum(counts[value] for value in values) >= LEAST_VOXELS]
        kinds = self._possible(there)
        if not kinds:
            return None
        weights = np.array([KINDS[kind] for kind in kinds])
        kind = random.choice(kinds, p=weights / weights.sum())
        if kind == "region of the image":
            mask = grown_region(image, label == 0, random)
            return None if mask is None else TargetObject(mask)
        if kind == "drawn into the image":
            drawn = drawn_object(image, random)
            return TargetObject(drawn.mask, image=drawn.image) if int(drawn.mask.sum()) >= LEAST_VOXELS else None
        chosen = there[random.integers(len(there))]
        mask = _one_of(label, chosen)
        if kind == "structure":
            return TargetObject(mask, chosen)
        if kind == "union":
            return TargetObject(mask | _one_of(label, there[random.integers(len(there))]))
        part = part_of(mask, random)
        return TargetObject(part) if int(part.sum()) >= LEAST_VOXELS else TargetObject(mask, chosen)

    def _possible(self, there: Sequence[tuple[int, ...]]) -> list[str]:
        if not self.anything:
            return ["structure"] if there else []
        possible = ["region of the image", "drawn into the image"]
        if there:
            possible += ["structure", "part"]
        return possible + ["union"] * (len(there) > 1)


def _one_of(label: torch.Tensor, values: Sequence[int]) -> torch.Tensor:
    return torch.stack([label == value for value in values]).any(0)


def part_of(mask: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Returns what lies on one side of a plane through a voxel of a mask.

    Args:
        mask: Bool ``(x, y, z)``, not empty.
        random: Says which voxel and which plane.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> mask = torch.ones(9, 9, 9, dtype=torch.bool)
        >>> 0 < int(part_of(mask, np.random.default_rng(0)).sum()) < 729
        True
    """
    at = picked(mask.float(), float(random.random()))
    side = torch.zeros(mask.shape, device=mask.device)
    for axis, (n, own) in enumerate(zip(mask.shape, at, strict=True)):
        shape = [-1 if axis == each else 1 for each in range(3)]
        side = side + float(random.normal()) * (torch.arange(n, device=mask.device) - own).view(shape)
    return mask & (side >= 0)


def grown_region(image: torch.Tensor, allowed: torch.Tensor, random: np.random.Generator) -> torch.Tensor | None:
    """Returns a connected region of a patch in which the image is even; None where none was found in a few tries.

    Args:
        image: ``(channel, x, y, z)``.
        allowed: Where it may lie, bool ``(x, y, z)``.
        random: All that is drawn comes from it.

    Returns:
        Bool ``(x, y, z)``.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> image = torch.zeros(1, 16, 16, 16)
        >>> image[:, :8] = 1
        >>> region = grown_region(image, torch.ones(16, 16, 16, dtype=torch.bool), np.random.default_rng(1))
        >>> len(image[0][region].unique())  # it lies on one side
        1
    """
    values = image[random.integers(len(image))].float()
    for _ in range(int(random.integers(1, 3))):
        values = smoothed(values)
    scale = float(values.std())
    if scale == 0 or not bool(allowed.any()):
        return None
    for _ in range(TRIES):
        seed = seed_of(values, allowed, random)
        reach = float(random.uniform(*REACH)) * max(values.shape)
        part = tuple(slice(max(int(at - reach), 0), int(at + reach) + 1) for at in seed)
        own = values[part]
        start = tuple(at - each.start for at, each in zip(seed, part, strict=True))
        even = ((own - own[start]).abs() < float(random.uniform(*TOLERANCE)) * scale) & allowed[part]
        region = smoothed(connected_to(start, even).float()) > 0.5
        n = int(region.sum())
        if LEAST_VOXELS <= n <= MOST_OF_A_PATCH * values.numel():
            whole = torch.zeros_like(allowed)
            whole[part] = region & allowed[part]
            return whole if int(whole.sum()) >= LEAST_VOXELS else None
    return None
