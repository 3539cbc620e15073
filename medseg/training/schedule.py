"""The learning rate over the part of the schedule that is done, whether steps or the clock measure it."""

import math
from typing import Literal

# As nnU-Net: (1 - progress) ** 0.9.
POLY_POWER = 0.9


def learning_rate(progress: float, peak: float, warm_up: float, shape: Literal["cosine", "poly"]) -> float:
    """The rate at ``progress`` in 0 … 1: a linear rise to ``peak`` during the part ``warm_up``, then a decay to 0."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < warm_up:
        # Not from zero: the first step would be lost.
        return peak * max(progress / warm_up, 0.01)
    rest = (progress - warm_up) / (1 - warm_up)
    if shape == "poly":
        return float(peak * (1 - rest) ** POLY_POWER)
    return peak * 0.5 * (1 + math.cos(math.pi * rest))
