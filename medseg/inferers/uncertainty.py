"""What the network thinks beside its labels: probabilities, and how sure it is, as NIfTI on the grid of the source.

They are gathered slab by slab in a temporary file, so that memory doesn't grow with labels × volume.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from medseg.errors import MedsegError
from medseg.io.nifti.writer import write_nifti
from medseg.scratch import forget, scratch_array
from medseg.transforms.restoring import Restored, oriented
from medseg.volume import SHEAR_TOLERANCE, Geometry

# Steps between 0 and 1 that are stored.
LEVELS = 255


class Maps:
    """An observer of the stream: maps with values from 0 to 1, named; 0 where the network saw nothing.

    ``of_logits`` makes ``(map, x, y, z)`` from logits ``(output, x, y, z)``.

    Raises:
        MedsegError: The source is sheared.
    """

    def __init__(
        self,
        names: Sequence[str],
        of_logits: Callable[[torch.Tensor], torch.Tensor],
        source: Geometry,
        orientation: str,
    ) -> None:
        if source.shear > SHEAR_TOLERANCE:
            raise MedsegError("probabilities and uncertainty cannot be had on a sheared grid; resample the image")
        self.names = names
        self.of_logits = of_logits
        self.source = source
        self.orientation = orientation
        self._maps = scratch_array(np.uint8, (len(names), *source.shape))

    def __call__(self, part: Restored) -> None:
        """Stores the values of a part of the source grid."""
        for view, values in zip(self._maps, self.of_logits(part.logits()), strict=True):
            place = oriented(view, self.source, self.orientation)[part.place]
            place[:] = (values * LEVELS).round().to("cpu", torch.uint8).numpy()
        forget(self._maps)

    def write(self, path_of: Callable[[str], Path]) -> list[Path]:
        """Writes one NIfTI file a map, float32, and returns their paths."""
        paths = [path_of(name) for name in self.names]
        for path, view in zip(paths, self._maps, strict=True):
            write_nifti(path, np.divide(view, LEVELS, dtype=np.float32), self.source)
            forget(self._maps)
        return paths
