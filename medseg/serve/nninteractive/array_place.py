"""Where arrays lie that clients send without an orientation: as the image of the folder that they are, else as said."""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

import numpy as np

from medseg.errors import ConfigError, MedsegError
from medseg.progress import say
from medseg.records import ORIENTATION
from medseg.serve.datastore import Datastore
from medseg.volume import Affine, Array, Geometry, Shape3, Spacing3, Volume

# How the axes of what clients send lie to those of files: as nibabel has them, or as ITK and 3D Slicer do.
ORDERS = ((0, 1, 2), (2, 1, 0))
MOST_LOOKED_AT = 2000  # images of a folder
LIKE = 0.01  # spacings that differ by a smaller part are one


class ArrayPlaces:
    """Finds where arrays lie.

    The protocol says how large voxels are, and not where the axes point. A network that has learnt where the front and
    the left of a patient are needs to know. An array that is one of the folder's images lies as that does; others lie
    as the user said.

    Args:
        datastore: The images of the folder.
        orientation: Where the axes of other arrays point: ``"SPL"`` for slices, rows and columns of axial images.

    Raises:
        ConfigError: The orientation is none.
    """

    def __init__(self, datastore: Datastore, orientation: str = "SPL") -> None:
        if re.fullmatch(ORIENTATION, orientation) is None:
            raise ConfigError(f"--array-orientation {orientation[:20]}: write it as SPL or RAS, a letter for each axis")
        self.datastore, self.orientation = datastore, orientation
        self._grid = lru_cache(MOST_LOOKED_AT)(self._grid_of)

    def volume(self, array: Array, spacing: Spacing3) -> Volume:
        """Returns an array with its place in the world.

        Args:
            array: ``(channel, *axes)``, in the client's order of axes.
            spacing: Edge lengths of a voxel in mm, in the same order.
        """
        for case_id, grid, order in self._alike(array.shape[1:], spacing):
            if self._is(array, case_id, order):
                say(f"An array lies as {case_id} does")
                affine = grid.affine.copy()
                affine[:3, :3] = grid.affine[:3, :3][:, list(order)]
                return Volume(array, Geometry(_shape(array), affine))
        shape = "×".join(map(str, array.shape[1:]))
        say(f"An array of {shape} voxels is none of the folder's images; its axes are taken for {self.orientation}")
        return Volume(array, Geometry(_shape(array), axes_towards(self.orientation) @ np.diag([*spacing, 1.0])))

    def _alike(self, shape: tuple[int, ...], spacing: Spacing3) -> Iterator[tuple[str, Geometry, tuple[int, ...]]]:
        """Yields the cases whose grid could be that of an array, and the axes of the case by those of the array."""
        for case_id in islice(self.datastore.cases, MOST_LOOKED_AT):
            grid = self._grid(case_id)
            for order in ORDERS if grid is not None else ():
                if grid is not None and tuple(grid.shape[axis] for axis in order) == shape:
                    edges = [grid.spacing[axis] for axis in order]
                    if np.allclose(edges, spacing, rtol=LIKE):
                        yield case_id, grid, order

    def _is(self, array: Array, case_id: str, order: tuple[int, ...]) -> bool:
        try:
            image = self.datastore.volume(case_id).array
        except MedsegError:
            return False
        turned = image.transpose(0, *(1 + axis for axis in order))
        return len(turned) == len(array) and np.array_equal(turned, array)

    def _grid_of(self, case_id: str) -> Geometry | None:
        try:
            return self.datastore.grid(case_id)
        except MedsegError:  # it is told of where it is asked for
            return None


def axes_towards(orientation: str) -> Affine:
    """Returns the affine of voxels of 1 mm whose axes point where three letters say.

    Examples:
        >>> axes_towards("SPL")[:3, :3].tolist()
        [[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for axis, letter in enumerate(orientation):
        row = next(i for i, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        affine[row, axis] = 1.0 if letter in "RAS" else -1.0
    return affine


def _shape(array: Array) -> Shape3:
    x, y, z = array.shape[1:]
    return x, y, z
