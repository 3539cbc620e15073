"""A phantom patient: build, pose, dose and noise, drawn at random before anything is painted."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from medseg.phantom.solid import Solid, Vector, column, ellipsoid, tube, under
from medseg.volume import Array


class PhantomPatient:
    """A patient whose build, pose, dose and noise are drawn at random.

    Coordinates are RAS mm from a point in front of the spine between the kidneys and the diaphragm.

    Args:
        seed: The number of the patient.

    Attributes:
        rng: What everything is drawn from, also later, in the order in which it is painted.
        pose: ``(3, 3)``; with ``shift`` it takes a point of the scanner to these coordinates.
        shift: In mm.
        size: Of the patient, where 1 is usual.
        fat_mm: Of the layer under the skin.
        wall_mm: Of the wall of muscle.
        half_width_mm: Of the abdominal cavity.
        half_depth_mm: Of the abdominal cavity.
        dome_mm: How high the right and the left dome of the diaphragm are.
        dose: Of contrast medium, where 1 is a full one.
        noise_hu: The standard deviation of the scanner noise.
    """

    def __init__(self, seed: int) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.pose = Rotation.from_euler("xyz", rng.normal(0, [2.5, 2.5, 4.0]), degrees=True).as_matrix()
        self.shift = rng.normal(0, [5.0, 5.0, 4.0])
        self.size = rng.uniform(0.92, 1.08)
        self.fat_mm = rng.uniform(7, 26)
        self.wall_mm = rng.uniform(9, 13)
        self.half_width_mm = self.size * rng.uniform(118, 130)
        self.half_depth_mm = self.size * rng.uniform(82, 92)
        self.dome_mm = self.size * 78 + rng.normal(0, 4, 2)
        self.dose = rng.uniform(0.1, 1.0)
        self.noise_hu = rng.uniform(12, 22)

    def trunk(self, outside_mm: float = 0.0) -> Solid:
        """Returns the abdominal cavity, and what lies up to so many mm around it."""
        return column(self.half_width_mm, self.half_depth_mm, squareness=2.4).grown(outside_mm)

    def diaphragm(self, below_mm: float = 0.0) -> Solid:
        """Returns all that lies under the two domes of the diaphragm, the right one the higher.

        Args:
            below_mm: How far below them it ends.
        """
        right, left = self.dome_mm - [0, 9] - below_mm

        def height(x: Array, y: Array) -> Array:
            over_liver = right - ((x - 58) ** 2 + 0.8 * y**2) / 240
            return np.asarray(np.maximum(over_liver, left - ((x + 58) ** 2 + 0.8 * y**2) / 220))

        return under(height)

    def inside(self, solid: Solid) -> Solid:
        """Returns the part of an organ that has room in the abdominal cavity."""
        return solid.within(self.trunk(-2.5)).within(self.diaphragm(below_mm=4))

    def place(self, point: Vector, jitter_mm: float = 4.0) -> Array:
        """Returns a point in this patient, somewhat elsewhere than it is described.

        Args:
            point: RAS mm, in a patient of size 1.
            jitter_mm: The standard deviation along each axis.
        """
        return np.asarray(point) * self.size + self.rng.normal(0, jitter_mm, 3)

    def organ(self, centre: Vector, radii: Vector, turn: Vector = (0, 0, 0)) -> Solid:
        """Returns an ellipsoid of somewhat other place, size and direction than it is described.

        Args:
            centre: RAS mm, in a patient of size 1.
            radii: In mm, in a patient of size 1.
            turn: Degrees about x, y and z, one after the other, about the centre.
        """
        size = np.asarray(radii) * self.size * self.rng.uniform(0.91, 1.1, 3)
        return ellipsoid(self.place(centre), size, np.asarray(turn) + self.rng.normal(0, 5, 3))

    def vessel(self, path: Sequence[Vector], radius_mm: float) -> Solid:
        """Returns a tube along a path that is somewhat other than described.

        Args:
            path: Points in RAS mm, in a patient of size 1.
            radius_mm: In a patient of size 1.
        """
        return tube([self.place(point) for point in path], radius_mm * self.size * self.rng.uniform(0.9, 1.15))
