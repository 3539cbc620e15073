"""Points of an array that are few in much space, as those of a surface are."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medseg.volume import Spacing3


class Points(NamedTuple):
    """Some of the points of an array of ``shape``, by their place ``at`` in it (in C order), in that order."""

    shape: tuple[int, ...]
    at: npt.NDArray[np.intp]

    def part(self, which: slice | npt.NDArray[np.bool_]) -> "Points":
        """Returns some of the points."""
        return Points(self.shape, self.at[which])

    def mm(self, spacing: Spacing3) -> npt.NDArray[np.float64]:
        """Returns the places of the points in mm, ``(point, axis)``, from the edges of a voxel in mm."""
        places = np.empty((self.at.size, 3))
        for axis, indices in enumerate(np.unravel_index(self.at, self.shape)):
            np.multiply(indices, spacing[axis], out=places[:, axis])
        return places

    def among(self, others: "Points") -> npt.NDArray[np.bool_]:
        """Returns which of these are among the others, in an array of the same shape."""
        if not others.at.size:
            return np.zeros(self.at.size, dtype=bool)
        nearest = np.searchsorted(others.at, self.at).clip(max=others.at.size - 1)
        same: npt.NDArray[np.bool_] = others.at[nearest] == self.at
        return same
