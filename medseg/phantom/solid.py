"""Solids: regions of space given by how deep a point lies in them, joined and cut like clay.

Points are ``(3, ...)`` in RAS mm. A depth is positive inside, and close to millimetres near the surface,
so that a solid can be grown, shelled and made rough. The blend of two solids is the quadratic one of
Inigo Quilez (https://iquilezles.org/articles/smin).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from medseg.volume import Array

Depth = Callable[[Array], Array]
Vector = npt.ArrayLike  # three numbers

FAR_MM = 1e4


@dataclass(frozen=True)
class Solid:
    """A region of space.

    Attributes:
        depth: How deep points ``(3, ...)`` lie in it: positive inside, and close to mm near the surface.
        low: The low corner of a box around it, RAS mm.
        high: The high corner.
    """

    depth: Depth
    low: Array
    high: Array

    def grown(self, by_mm: float) -> "Solid":
        """Returns the solid with its surface so many mm further out; further in where they are negative."""
        return Solid(lambda p: self.depth(p) + by_mm, self.low - by_mm, self.high + by_mm)

    def joined(self, other: "Solid", blend_mm: float = 0.0) -> "Solid":
        """Returns both solids as one.

        Args:
            other: What it is joined with.
            blend_mm: Over how much the crease is filled where they meet.
        """

        def depth(p: Array) -> Array:
            one, two = self.depth(p), other.depth(p)
            fillet = np.maximum(blend_mm - np.abs(one - two), 0) ** 2 / (4 * blend_mm) if blend_mm else 0
            return np.asarray(np.maximum(one, two) + fillet)

        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Solid(depth, low - blend_mm, high + blend_mm)

    def within(self, other: "Solid") -> "Solid":
        """Returns what lies in both solids."""
        low, high = np.maximum(self.low, other.low), np.minimum(self.high, other.high)
        return Solid(lambda p: np.minimum(self.depth(p), other.depth(p)), low, high)

    def without(self, other: "Solid") -> "Solid":
        """Returns what lies in this solid, and not in the other."""
        return Solid(lambda p: np.minimum(self.depth(p), -other.depth(p)), self.low, self.high)


def ellipsoid(centre: Vector, radii: Vector, turn: Vector = (0, 0, 0)) -> Solid:
    """Returns an ellipsoid.

    Args:
        centre: RAS mm.
        radii: Along its three axes, in mm.
        turn: Degrees about x, y and z, one after the other, about the centre.
    """
    middle, axes = np.asarray(centre, np.float32), np.asarray(radii, np.float32)
    scale = float(np.cbrt(np.prod(axes)))
    to_unit = (
        Rotation.from_euler("xyz", np.asarray(turn, np.float64), degrees=True).as_matrix().T / axes[:, None]
    ).astype(np.float32)

    def depth(p: Array) -> Array:
        unit = np.tensordot(to_unit, p - middle.reshape(3, *[1] * (p.ndim - 1)), axes=1)
        return scale * (1 - np.sqrt(_squared(unit)))

    reach = axes.max()
    return Solid(depth, middle - reach, middle + reach)


def tube(path: Sequence[Vector], radius_mm: float) -> Solid:
    """Returns a round tube along a path, with round ends.

    Args:
        path: At least two points, RAS mm.
        radius_mm: Of the tube.
    """
    points = np.asarray(path, np.float32)

    def depth(p: Array) -> Array:
        wide = (3, *[1] * (p.ndim - 1))
        nearest = np.full(p.shape[1:], np.inf, np.float32)
        for start, end in pairwise(points):
            along = end - start
            offset = p - start.reshape(wide)
            part = np.clip(np.tensordot(along, offset, axes=1) / float(along @ along), 0, 1)
            offset -= part * along.reshape(wide)
            np.minimum(nearest, _squared(offset), out=nearest)
        return radius_mm - np.sqrt(nearest)

    return Solid(depth, points.min(axis=0) - radius_mm, points.max(axis=0) + radius_mm)


def column(
    radius_x_mm: float, radius_y_mm: float, centre: tuple[float, float] = (0, 0), squareness: float = 2.0
) -> Solid:
    """Returns an endless column along z.

    Args:
        radius_x_mm: Of its section, along x.
        radius_y_mm: Of its section, along y.
        centre: Of its section, (x, y) in RAS mm.
        squareness: The exponent of its section: 2 is an ellipse, more is squarer.
    """
    scale = float(np.sqrt(radius_x_mm * radius_y_mm))

    def depth(p: Array) -> Array:
        x, y = np.abs(p[0] - centre[0]) / radius_x_mm, np.abs(p[1] - centre[1]) / radius_y_mm
        return np.asarray(scale * (1 - (x**squareness + y**squareness) ** (1 / squareness)))

    low = np.array([centre[0] - radius_x_mm, centre[1] - radius_y_mm, -FAR_MM])
    high = np.array([centre[0] + radius_x_mm, centre[1] + radius_y_mm, FAR_MM])
    return Solid(depth, low, high)


def under(dome: Callable[[Array, Array], Array]) -> Solid:
    """Returns all that lies below the surface ``z = dome(x, y)``."""
    return Solid(lambda p: dome(p[0], p[1]) - p[2], np.full(3, -FAR_MM), np.full(3, FAR_MM))


def _squared(vectors: Array) -> Array:
    return np.asarray(np.einsum("i...,i...->...", vectors, vectors))
