"""The mean of the probabilities that networks of different plans give, on the grid of the source.

Networks of one plan are averaged window by window (``inferers.ensemble``). Those of different plans, as of a 2D and a
3D configuration, meet only on the grid of the source. Their probabilities are gathered part by part in a temporary
file, so that memory doesn't grow with labels × volume.
"""

from math import prod

import numpy as np
import torch

from medseg.decoding import Decoding
from medseg.errors import MedsegError
from medseg.scratch import forget, scratch_array
from medseg.transforms.restoring import Observer, Restored, oriented
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry

# Steps between 0 and 1 that are stored, in 16 bits. There is room above for what rounding adds.
LEVELS = 65_000

VOXELS_AT_ONCE = 2**20


class MeanProbabilities:
    """Adds the probabilities of several networks up; where a network saw nothing, it says background.

    Args:
        decoding: Of all networks: what their outputs stand for.
        n_outputs: Of each network.
        n_networks: How many will be added.
        source: The grid of the result.

    Raises:
        MedsegError: The source is sheared.
    """

    def __init__(self, decoding: Decoding, n_outputs: int, n_networks: int, source: Geometry) -> None:
        if source.shear > SHEAR_TOLERANCE:
            raise MedsegError("models of different plans cannot be averaged on a sheared grid; resample the image")
        self.decoding, self.n_networks, self.source = decoding, n_networks, source
        # Where nothing was seen: 1 in the output of the background, if it has one; 0 in all others.
        self._nothing = decoding.activated(decoding.nothing(n_outputs)).round()
        self._sums = scratch_array(np.uint16, (len(self._nothing), *source.shape))
        for sums, nothing in zip(self._sums, self._nothing.tolist(), strict=True):
            if nothing:
                sums[:] = round(nothing * LEVELS)
        forget(self._sums)

    def observer(self, orientation: str) -> Observer:
        """Returns what adds the probabilities of one network, part by part of the source grid.

        Args:
            orientation: Of the network's grid.
        """

        def add(part: Restored) -> None:
            for sums, values, nothing in zip(
                self._sums, self.decoding.activated(part.logits()), self._nothing.tolist(), strict=True
            ):
                place = oriented(sums, self.source, orientation)[part.place]
                added = ((values - nothing) * (LEVELS / self.n_networks)).round().to("cpu", torch.int32).numpy()
                place[:] = np.clip(place + added, 0, 2**16 - 1)
            forget(self._sums)

        return add

    def label_map(self) -> Array:
        """Returns the network labels ``(x, y, z)``, uint8, of the mean probabilities."""
        x, y, z = self.source.shape
        result = np.empty((x, y, z), np.uint8)
        thickness = max(1, VOXELS_AT_ONCE // prod((y, z)))
        for start in range(0, x, thickness):
            part = slice(start, start + thickness)
            mean = torch.from_numpy(self._sums[:, part].astype(np.float32)).div_(LEVELS)
            result[part] = self.decoding.labels_of_activated(mean, 0).numpy()
            forget(self._sums)
        return result
