"""Points and scribbles as constraints: an answer of the network that contradicts one is moved around it."""

from collections.abc import Sequence
from statistics import geometric_mean

import numpy as np
import torch

from medseg.interactive.encoding import window_voxels
from medseg.interactive.prompts import Point, Prompt, Scribble
from medseg.volume import Geometry

MARGIN = 1.0  # of a logit that was moved to agree with its prompt
BEYOND = 0.5  # part of its wrong value that it gets at least on the right side
SPREAD = 3.0  # voxels: standard deviation of how far a voxel takes its neighbours along
REACH = 3.0  # standard deviations, beyond which nothing moves


def agreeing(logits: torch.Tensor, prompts: Sequence[Prompt], source: Geometry, window: Geometry) -> torch.Tensor:
    """Returns logits that agree with all points and scribbles.

    Where one has the wrong sign, it is moved to the right one, and those around it by less, as far as a Gaussian tells:
    the border that the network drew moves past the prompt, and keeps its shape elsewhere. This is the mean of a
    Gaussian process with the logits of the network as its prior, one observation at a time.

    Source: Zhou et al. 2023, arXiv:2302.14578 (clicks as observations of a Gaussian process; here its
    kernel knows distances only).

    Args:
        logits: ``(x, y, z)`` float32, on the grid of the window.
        prompts: Of one object, from the oldest to the newest, which wins.
        source: The grid that the indices of the prompts belong to.
        window: The grid of the logits.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from medseg.interactive.prompts import Point
        >>> from medseg.volume import Geometry
        >>> grid = Geometry((9, 1, 1), np.eye(4))
        >>> logits = torch.linspace(4, -4, 9).view(9, 1, 1)
        >>> (agreeing(logits, [Point((5, 0, 0))], grid, grid) > 0).flatten().int().tolist()
        [1, 1, 1, 1, 1, 1, 0, 0, 0]
    """
    values = logits.clone()
    edges = [mm for mm, n in zip(window.spacing, window.shape, strict=True) if n > 1]
    spread_mm = SPREAD * geometric_mean(edges or [1.0])
    for prompt in prompts:
        if isinstance(prompt, Point | Scribble):
            for voxel in window_voxels(source, window, prompt):
                _move(values, voxel, 1 if prompt.positive else -1, window.spacing, spread_mm)
    return values


def _move(values: torch.Tensor, voxel: Sequence[int], sign: int, spacing: Sequence[float], spread_mm: float) -> None:
    """Moves the logit of a voxel that has the wrong sign, and those around it."""
    value = sign * float(values[tuple(voxel)])
    if value > 0:
        return
    part, exponents = [], []
    for axis, (at, mm, n) in enumerate(zip(voxel, spacing, values.shape, strict=True)):
        reach = int(REACH * spread_mm / mm)
        part.append(slice(max(at - reach, 0), min(at + reach + 1, n)))
        away = (np.arange(n)[part[-1]] - at) * mm / spread_mm
        exponents.append((-(away**2) / 2).reshape([-1 if axis == each else 1 for each in range(3)]))
    by = sign * (max(MARGIN, -BEYOND * value) - value)
    values[tuple(part)] += by * torch.from_numpy(np.exp(sum(exponents))).float()
