"""A first look at a large image: at half the resolution, for where it is worth looking finely.

The same network sees the shrunk image as if it lay on the model grid, as the first of two networks does elsewhere
(coarse to fine; Zhou et al. 2017, fixed-point model). Structures look half as large to it as those it was trained on.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from medseg.config import InferenceConfig
from medseg.inferers.case_stream import CaseStream, body_of
from medseg.inferers.coarse_mask import CoarseMask, block_maxima, block_step
from medseg.inferers.memory_plan import MemoryPlan
from medseg.inferers.predictor import Predictor
from medseg.inferers.windows import Layout

SHRUNK = 2

# What lies as near to what was found is looked at finely.
MARGIN_MM = 20.0

# The least part of all windows that the look has to be worth, or it is left out.
WORTH = 0.5


@dataclass(frozen=True)
class Look:
    """What a first look found.

    ``mask`` is of that, with a margin; None, with the reason, where all has to be looked at finely.
    """

    mask: CoarseMask | None
    reason: str = ""


def first_look(
    predictor: Predictor, image: torch.Tensor, config: InferenceConfig, memory_plan: MemoryPlan | None = None
) -> Look:
    """Returns where a first look at a shrunk image found structures.

    Args:
        predictor: Predicts windows.
        image: ``(channel, x, y, z)`` on the model grid.
        config: The settings of prediction.
        memory_plan: How many windows are predicted at a time; None: as many as fill a batch.
    """
    x, y, z = image.shape[1:]
    factors = (min(SHRUNK, x), min(SHRUNK, y), min(SHRUNK, z))
    small = averaged_down(image, factors)
    grid = predictor.plan.grid
    a, b, c = (mm * factor for mm, factor in zip(grid.spacing, factors, strict=True))
    coarse = grid.model_copy(update={"spacing": (a, b, c)})
    stream = CaseStream(predictor, small, config, memory_plan, body_of(small, coarse, config))
    finely = Layout.of(predictor.network, predictor.plan, (x, y, z), config)
    if stream.layout.n_windows > (1 - WORTH) * finely.n_windows:
        return Look(None, "the image is too small for one to save time")
    found = stream.labels() > 0
    if not bool(found.any()):
        return Look(None, "nothing was found at half the resolution")
    step = block_step(grid.spacing)
    i, j, k = (n // factor for n, factor in zip(step, factors, strict=True))
    mask = CoarseMask(block_maxima(found.float(), (i, j, k)).numpy() > 0, step)
    return Look(mask.dilated(MARGIN_MM, grid.spacing))


def averaged_down(image: torch.Tensor, factors: tuple[int, int, int]) -> torch.Tensor:
    """Returns the mean of each block of voxels; the last blocks may lack some."""
    small: torch.Tensor = functional.avg_pool3d(image[None], factors, ceil_mode=True, count_include_pad=False)[0]
    return small
