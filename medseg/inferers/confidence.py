"""What a network says of its own mask: the Dice that is to be expected, and how probable each label was."""

from math import isfinite, prod

import numpy as np
import numpy.typing as npt
import torch

from medseg.decoding import Decoding, or_on_processor
from medseg.inferers.accumulator import Slab
from medseg.labels import Labels
from medseg.volume import Array, Geometry, Shape3

# Voxels of an image from which on every second one along each axis is looked at: an eighth costs next to nothing.
LARGE = 2**21

STEPS = 255  # of a probability in a byte


class Confidence:
    """Watches the logits of one case, slab by slab on the model grid.

    The soft Dice between the mask M of a structure and its probabilities p, 2 Σ_M p / (|M| + Σ p), is close to the Dice
    that the mask is expected to have, if the probabilities can be believed: the Soft Dice Confidence of Borges,
    Pacheco and Silva 2024 (arXiv 2402.10665), here of each label and region against all else.
    """

    def __init__(self, labels: Labels, decoding: Decoding, shape: Shape3) -> None:
        """Begins with no voxel; ``shape`` is that of the image on the model grid."""
        self.unions, self.decoding = labels.unions, decoding
        self.step = 2 if prod(shape) >= LARGE else 1
        # 1 where a network value (first axis, with the background) is a part of a structure.
        self._parts = torch.tensor(
            [[float(value in union) for union in self.unions.values()] for value in range(len(labels.items) + 1)]
        )
        # By structure: voxels of the mask, their probabilities of it, those of all voxels.
        self._sums = torch.zeros(3, len(self.unions), dtype=torch.float64)

    def take(self, slab: Slab) -> None:
        """Adds the next slab."""
        for _, plane in slab.planes(self.step):
            or_on_processor(self._add, plane[:: self.step, :: self.step].flatten(0, 1))

    def _add(self, logits: torch.Tensor) -> None:
        """Adds some logits, ``(voxel, output)``."""
        mask = self._parts.to(logits.device)[self.decoding.labels(logits, -1).long()]  # (voxel, structure)
        probabilities = self.decoding.probabilities(logits.float().T, self.unions).T
        sums = [each.sum(0, dtype=torch.float64) for each in (mask, mask * probabilities, probabilities)]
        self._sums += torch.stack(sums).cpu()

    @property
    def sums(self) -> list[list[float]]:
        """Three sums by structure, as ``add`` takes them: voxels of its mask, their probabilities, those of all."""
        sums: list[list[float]] = self._sums.tolist()
        return sums

    def add(self, sums: list[list[float]]) -> None:
        """Adds what another one summed of other voxels of the same case."""
        self._sums += torch.tensor(sums, dtype=torch.float64)

    @property
    def expected_dice(self) -> dict[str, float]:
        """The expected Dice by name of label or region, of those that some voxel has that was looked at.

        What is no number is left out.
        """
        sums = zip(self.unions, *self._sums.tolist(), strict=True)
        return {name: 2 * inside / (n + every) for name, n, inside, every in sums if n and isfinite(every)}


class ChosenLabelProbability:
    """Keeps, of each voxel, the probability of the label that was chosen, as a byte.

    It says how probable was what postprocessing takes away. It watches the logits of one case, slab by slab on the
    model grid, of networks whose outputs are labels.
    """

    def __init__(self, grid: Geometry) -> None:
        self.grid = grid
        self._steps = torch.zeros(grid.shape, dtype=torch.uint8)

    def take(self, slab: Slab) -> None:
        """Stores the probabilities of the next slab."""
        for i, plane in slab.planes():
            largest = or_on_processor(_largest_probability, plane)
            self._steps.select(slab.axis, i).copy_((largest * STEPS).round().to(torch.uint8))

    def at(self, points: Array) -> npt.NDArray[np.float64]:
        """Returns the probability of the nearest voxel of each of the ``points``, ``(n, 3)``, in RAS mm."""
        nearest = np.rint(self.grid.index(points)).astype(int).clip(0, np.array(self.grid.shape) - 1)
        probabilities: npt.NDArray[np.float64] = self._steps.numpy()[tuple(nearest.T)] / STEPS
        return probabilities


def _largest_probability(logits: torch.Tensor) -> torch.Tensor:
    """Returns the largest probability of the labels, ``(...)``, of logits ``(..., label)``."""
    logits = logits.float()
    return (logits.amax(-1) - logits.logsumexp(-1)).exp()
