"""How sure the network was of the label that it chose, kept for all voxels of a case: to say so of what is taken away
again."""

import numpy as np
import numpy.typing as npt
import torch

from medseg.inferers.accumulator import Slab
from medseg.volume import Array, Geometry

STEPS = 255  # of a probability in a byte


class Sureness:
    """Watches the logits of one case, slab by slab on the model grid; keeps a byte a voxel. For networks whose outputs
    are labels."""

    def __init__(self, grid: Geometry) -> None:
        self.grid = grid
        self._steps = torch.zeros(grid.shape, dtype=torch.uint8)

    def take(self, slab: Slab) -> None:
        """The next slab. Plane by plane, so that memory doesn't grow with the slab."""
        for i in range(slab.start + slab.repeated, slab.stop):
            logits = slab.logits.select(slab.axis, i - slab.start).float()
            largest = (logits.amax(-1) - logits.logsumexp(-1)).exp()
            self._steps.select(slab.axis, i).copy_((largest * STEPS).round().to(torch.uint8))

    def at(self, points: Array) -> npt.NDArray[np.float64]:
        """The probabilities at ``points`` (n, 3), in RAS mm, of the nearest voxel each."""
        nearest = np.rint(self.grid.index(points)).astype(int).clip(0, np.array(self.grid.shape) - 1)
        probabilities: npt.NDArray[np.float64] = self._steps.numpy()[tuple(nearest.T)] / STEPS
        return probabilities
