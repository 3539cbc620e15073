"""How well a mask agrees with the network's own probabilities: the Dice that is to be expected of it."""

from math import isfinite, prod

import torch

from medseg.inference.accumulator import Slab
from medseg.labels import Labels
from medseg.volume import Shape3

# Voxels of an image from which on every second one along each axis is looked at: an eighth costs next to nothing.
LARGE = 2**21


class Confidence:
    """Watches the logits of one case, slab by slab on the model grid.

    The soft Dice between the mask M of a structure and its probabilities p, 2 Σ_M p / (|M| + Σ p), is close to the Dice
    that the mask is expected to have, if the probabilities can be believed: the Soft Dice Confidence of Borges,
    Pacheco and Silva 2024 (arXiv 2402.10665), here of each label and region against all else.
    """

    def __init__(self, labels: Labels, shape: Shape3) -> None:
        """``shape`` is that of the image on the model grid."""
        self.names = [structure.name for structure in labels.structures]
        self.step = 2 if prod(shape) >= LARGE else 1
        # 1 where a network value (first axis, with the background) is a part of a structure.
        self._parts = torch.tensor([[float(v in s.values) for s in labels.structures] for v in (0, *labels.values)])
        # By structure: voxels of the mask, their probabilities of it, those of all voxels.
        self._sums = torch.zeros(3, len(self.names), dtype=torch.float64)

    def take(self, slab: Slab) -> None:
        """The next slab. Plane by plane, so that memory doesn't grow with the slab."""
        first = slab.start + slab.repeated
        for i in range(first + -first % self.step, slab.stop, self.step):
            plane = slab.logits.select(slab.axis, i - slab.start)[:: self.step, :: self.step]
            try:
                self._add(plane.flatten(0, 1))
            except torch.cuda.OutOfMemoryError:
                self._add(plane.flatten(0, 1).cpu())

    def _add(self, logits: torch.Tensor) -> None:
        """(voxel, label)."""
        parts, shares = self._parts.to(logits.device), logits.float().softmax(-1)
        mask, probabilities = parts[shares.argmax(-1)], shares @ parts  # (voxel, structure)
        sums = [each.sum(0, dtype=torch.float64) for each in (mask, mask * probabilities, probabilities)]
        self._sums += torch.stack(sums).cpu()

    @property
    def expected_dice(self) -> dict[str, float]:
        """By name of label or region, of those that some voxel has that was looked at; not of what is no number."""
        sums = zip(self.names, *self._sums.tolist(), strict=True)
        return {name: 2 * inside / (n + every) for name, n, inside, every in sums if n and isfinite(every)}
