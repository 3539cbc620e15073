"""How well a mask agrees with the network's own probabilities: the Dice that is to be expected of it."""

from math import isfinite, prod

import torch

from medseg.inference.accumulator import Slab
from medseg.volume import Shape3

# Voxels of an image from which on every second one along each axis is looked at: an eighth costs next to nothing.
LARGE = 2**21


class Confidence:
    """Watches the logits of one case, slab by slab on the model grid.

    The soft Dice between the mask M of a label and its probabilities p, 2 Σ_M p / (|M| + Σ p), is close to the Dice
    that the mask is expected to have, if the probabilities can be believed: the Soft Dice Confidence of Borges,
    Pacheco and Silva 2024 (arXiv 2402.10665), here of each label against all others.
    """

    def __init__(self, n_labels: int, shape: Shape3) -> None:
        """``n_labels`` with the background; ``shape`` of the image on the model grid."""
        self.step = 2 if prod(shape) >= LARGE else 1
        # By label: voxels of the mask, their probabilities of it, those of all voxels.
        self._sums = torch.zeros(3, n_labels, dtype=torch.float64)

    def take(self, slab: Slab) -> None:
        """The next slab. Plane by plane, so that memory doesn't grow with the slab."""
        first = slab.start + slab.repeated
        for i in range(first + -first % self.step, slab.stop, self.step):
            plane = slab.logits.select(slab.axis, i - slab.start)[:: self.step, :: self.step]
            try:
                self._add(plane)
            except torch.cuda.OutOfMemoryError:
                self._add(plane.cpu())

    def _add(self, plane: torch.Tensor) -> None:
        probabilities = plane.float().softmax(-1).flatten(0, 1)  # (voxel, label)
        of_mask, label = probabilities.max(-1)
        n = probabilities.shape[1]
        voxels, inside = torch.bincount(label, minlength=n), torch.bincount(label, of_mask.double(), minlength=n)
        self._sums += torch.stack([voxels, inside, probabilities.sum(0)]).to("cpu", torch.float64)

    @property
    def expected_dice(self) -> list[float | None]:
        """Of each label without the background; None where no voxel that was looked at has it, and
        where the network answered with no number."""
        voxels, inside, everywhere = self._sums[:, 1:].tolist()
        sums = zip(voxels, inside, everywhere, strict=True)
        return [2 * i / (n + e) if n and isfinite(e) else None for n, i, e in sums]
