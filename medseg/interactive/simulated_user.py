"""The user whom training imagines: points, boxes, scribbles and lassos at an object, and at the errors of a mask.

Masks stay on their device; what is drawn at random comes from a generator on the host, so that each prompt is a
function of its seed.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from medseg.interactive.bounds import Bounds, slices
from medseg.interactive.mask_geometry import depth, filled_box, picked, with_border
from medseg.interactive.prompts import Box, Lasso, Point, Prompt, Scribble, voxels_of

# How likely the first prompt is of each kind, in a volume; on a slice there is but one kind of box.
FIRST_KINDS = {"point": 0.6, "box": 0.1, "box on a slice": 0.1, "scribble": 0.13, "lasso": 0.07}
SCRIBBLED_CORRECTIONS = 0.2
SURPRISING_CORRECTIONS = 0.2  # at the other kind of error than the thickest one
# Points prefer the depth of an object: weights of its voxels are their depth to one of these powers.
DEPTH_POWERS = (0, 2, 8)
JITTER = 1.0  # voxels, of a point and of the edges of a box
LOOSE = (-0.03, 0.2)  # part of its edge by which a box is too large on each side
LEAST_SCRIBBLED = 8  # voxels on a slice; smaller things get points


class SimulatedUser:
    """Draws prompts at one object on a patch.

    Source: Isensee et al. 2025, arXiv:2503.08373 (kinds of prompts, corrections); Amrehn et al. 2017, Bredell et al.
    2018, doi:10.1007/978-3-030-00937-3_67 (corrections where the error is).

    Args:
        random: All that is drawn comes from it.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> mask = torch.zeros(16, 16, 16, dtype=torch.bool)
        >>> mask[4:12, 4:12, 4:12] = True
        >>> user = SimulatedUser(np.random.default_rng(0))
        >>> prompt = user.first(mask)
        >>> user.correction(mask, mask) is None  # there is nothing to correct
        True
        >>> user.correction(mask, torch.zeros_like(mask)).positive
        True
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random

    def first(self, mask: torch.Tensor) -> Prompt:
        """Returns the first prompt at an object.

        Args:
            mask: Where it is, bool ``(x, y, z)``, not empty.
        """
        kind = self.random.choice(list(FIRST_KINDS), p=list(FIRST_KINDS.values()))
        if kind == "point":
            return self.point(mask)
        if kind == "box":
            return Box(self._loose(filled_box(mask), mask.shape))
        plane = self._plane(mask)
        if kind == "scribble":
            return self._scribble(mask, plane, positive=True)
        if kind == "lasso":
            around = with_border(mask[plane]).cpu().numpy()
            return Lasso(voxels_of(around, first_voxel(plane)))
        own = zip(first_voxel(plane), filled_box(mask[plane]), strict=True)
        x, y, z = ((first + a, first + b) for first, (a, b) in own)
        return Box(self._loose((x, y, z), mask.shape))

    def correction(self, target: torch.Tensor, mask: torch.Tensor) -> Prompt | None:
        """Returns a prompt at an error of a mask, mostly where it is thickest; None where there is no error.

        Args:
            target: What the mask should be, bool ``(x, y, z)``.
            mask: What it is.
        """
        errors = {True: target & ~mask, False: mask & ~target}
        there = [positive for positive, error in errors.items() if bool(error.any())]
        if not there:
            return None
        positive = there[0]
        if len(there) == 2:
            thickness = [(float(depth(errors[each]).max()), int(errors[each].sum())) for each in there]
            positive = (thickness[0] >= thickness[1]) != (self.random.random() < SURPRISING_CORRECTIONS)
        if self.random.random() < SCRIBBLED_CORRECTIONS:
            return self._scribble(errors[positive], self._plane(errors[positive]), positive)
        return self.point(errors[positive], positive)

    def point(self, mask: torch.Tensor, positive: bool = True) -> Point:
        """Returns a point in a mask, more or less in the middle.

        Args:
            mask: Bool ``(x, y, z)``, not empty.
            positive: Whether the object is there.
        """
        x, y, z = self._voxel(mask)
        moved = np.round(np.array([x, y, z]) + self.random.normal(0, JITTER, 3)).astype(int)
        moved = np.clip(moved, 0, np.array(mask.shape) - 1)
        i, j, k = (int(each) for each in (moved if bool(mask[tuple(moved)]) else (x, y, z)))
        return Point((i, j, k), positive)

    def _voxel(self, mask: torch.Tensor) -> tuple[int, ...]:
        power = int(self.random.choice(DEPTH_POWERS))
        box = filled_box(mask)
        part = mask[slices(box)]
        weights = part.float() if power == 0 else depth(part).pow(power)
        found = picked(weights, float(self.random.random()))
        return tuple(int(n + a) for n, (a, _) in zip(found, box, strict=True))

    def _plane(self, mask: torch.Tensor) -> tuple[slice, ...]:
        """Returns the slice through a voxel of a mask, along any axis; of a mask of one slice that slice."""
        flat = [axis for axis, n in enumerate(mask.shape) if n == 1]
        axis = flat[0] if flat else int(self.random.integers(3))
        at = self._voxel(mask)[axis]
        return tuple(slice(at, at + 1) if axis == each else slice(None) for each in range(3))

    def _loose(self, bounds: Bounds, shape: Sequence[int]) -> Bounds:
        """Returns a box that is too large, as those are that people draw; a slice stays a slice."""
        loose = []
        for (a, b), n in zip(bounds, shape, strict=True):
            before, after = self.random.uniform(*LOOSE, 2) * (b - a) + self.random.normal(0, JITTER, 2)
            low, high = max(round(a - before), 0), min(round(b + after), n)
            loose.append((a, b) if b - a == 1 or high - low < 1 else (low, high))
        x, y, z = loose
        return x, y, z

    def _scribble(self, mask: torch.Tensor, plane: Sequence[slice], positive: bool) -> Prompt:
        """Returns a stroke through voxels of a mask on a slice; a point where there is too little on it."""
        on_slice = mask[tuple(plane)]
        if int(on_slice.sum()) < LEAST_SCRIBBLED:
            return self.point(mask, positive)
        corners = np.array([self._voxel(on_slice) for _ in range(int(self.random.integers(2, 4)))], dtype=float)
        stroke = np.concatenate([np.linspace(a, b, 2 * int(np.abs(b - a).max()) + 1) for a, b in pairwise(corners)])
        wobble = np.cumsum(self.random.normal(0, 0.2, stroke.shape), 0) * (np.array(on_slice.shape) > 1)
        voxels = np.unique(np.round(stroke + wobble).astype(int), axis=0)
        voxels = voxels[((voxels >= 0) & (voxels < on_slice.shape)).all(1)]
        voxels = voxels[on_slice.cpu().numpy()[tuple(voxels.T)]]
        if len(voxels) == 0:
            return self.point(mask, positive)
        return Scribble(voxels + np.array(first_voxel(plane)), positive)


def first_voxel(part: Sequence[slice]) -> tuple[int, int, int]:
    """Returns the index of the first voxel of a part (x, y, z)."""
    x, y, z = (each.start or 0 for each in part)
    return x, y, z
