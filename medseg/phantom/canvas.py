"""A canvas: a fine grid of points in space, and the tissue painted at each of them so far."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from medseg.phantom.solid import Solid
from medseg.phantom.tissue import Tissue
from medseg.volume import Array, Geometry

# How far, and over what distance, the space that anatomy is painted in is bent; and the same for organ
# surfaces.
BEND_MM, BEND_WAVELENGTH_MM = 5.0, 170.0
RELIEF_MM, RELIEF_WAVELENGTH_MM = 1.5, 55.0


@dataclass(frozen=True)
class Canvas:
    """A fine grid of points in space, and the tissue painted at each of them so far.

    A part of a canvas is a view: painting on it paints on the whole.

    Attributes:
        grid: The grid of the whole canvas, in RAS mm.
        points: ``(3, x, y, z)``: RAS mm after bending.
        relief: ``(x, y, z)``: how far a surface is raised, in mm.
        tissue: ``(x, y, z)``: values of ``Tissue``.
        slack_mm: How far from its box the surface of a solid can come to lie.
    """

    grid: Geometry
    points: Array
    relief: Array
    tissue: Array
    slack_mm: float

    @classmethod
    def blank(cls, grid: Geometry, rng: np.random.Generator) -> "Canvas":
        """Returns a canvas of air, in a space that is bent at random.

        Args:
            grid: In RAS mm.
            rng: What the space is drawn from.
        """
        bend = np.stack([smooth_field(rng, grid, BEND_WAVELENGTH_MM) for _ in range(3)]) * np.float32(BEND_MM)
        relief = smooth_field(rng, grid, RELIEF_WAVELENGTH_MM) * np.float32(RELIEF_MM)
        slack_mm = float(np.abs(bend).max() + np.abs(relief).max())
        steps = [step.astype(np.float32) for step in np.ogrid[tuple(slice(n) for n in grid.shape)]]
        for axis, (along_x, along_y, along_z, start) in enumerate(grid.affine[:3].astype(np.float32)):
            bend[axis] += along_x * steps[0] + along_y * steps[1] + along_z * steps[2] + start
        return cls(grid, bend, relief, np.zeros(grid.shape, np.uint8), slack_mm)

    def near(self, solid: Solid) -> "Canvas":
        """Returns the part of the canvas in which a solid can be."""
        low, high = solid.low - self.slack_mm, solid.high + self.slack_mm
        corners = self.grid.index([np.choose(pick, [low, high]) for pick in product((0, 1), repeat=3)])
        first = np.clip(np.floor(corners.min(axis=0)), 0, self.grid.shape).astype(int)
        last = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, self.grid.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        return Canvas(self.grid, self.points[:, *box], self.relief[box], self.tissue[box], self.slack_mm)

    def paint(self, tissue: Tissue, solid: Solid, *, rough: bool = False) -> None:
        """Fills a solid with a tissue, over whatever was there.

        Args:
            tissue: What it is filled with.
            solid: What is filled.
            rough: Whether the relief is added to its surface.
        """
        part = self.near(solid)
        depth = solid.depth(part.points)
        part.tissue[(depth + part.relief if rough else depth) > 0] = tissue


def smooth_field(rng: np.random.Generator, grid: Geometry, wavelength_mm: float, n_waves: int = 24) -> Array:
    """Returns random values with mean 0 and deviation 1 that vary over about one wavelength.

    They are a sum of plane waves of random direction and phase. It is a function of the place in the world, so that it
    does not change with the grid; and since a plane wave is a product over the axes of any grid, the sum is one product
    of matrices.

    Args:
        rng: What the waves are drawn from.
        grid: In RAS mm.
        wavelength_mm: The mean wavelength.
        n_waves: How many waves are added.

    Returns:
        ``(x, y, z)``, float32.

    Source:
        Random Fourier features: Rahimi and Recht 2007, NeurIPS 20.
    """
    direction = rng.normal(size=(n_waves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    vectors = direction * (2 * np.pi / wavelength_mm * rng.uniform(0.7, 1.3, size=(n_waves, 1)))
    phase = rng.uniform(0, 2 * np.pi, size=n_waves) + vectors @ grid.affine[:3, 3]
    x, y, z = (
        np.exp(1j * np.outer(step, np.arange(n))).astype(np.complex64)
        for step, n in zip((vectors @ grid.affine[:3, :3]).T, grid.shape, strict=True)
    )
    plane = (np.exp(1j * phase)[:, None, None] * x[:, :, None] * y[:, None, :]).reshape(n_waves, -1)
    # The real part of the product of complex matrices, as one product of real ones.
    waves = np.concatenate([plane.real, -plane.imag]).astype(np.float32).T @ np.concatenate([z.real, z.imag])
    return np.asarray(waves * np.float32(np.sqrt(2 / n_waves))).reshape(grid.shape)
