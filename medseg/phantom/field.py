"""Smooth random fields: the unevenness of bodies and tissues."""

import numpy as np

from medseg.volume import Array, Geometry


def smooth_field(rng: np.random.Generator, grid: Geometry, wavelength_mm: float, n_waves: int = 24) -> Array:
    """Random values (x, y, z) with mean 0 and deviation 1 that vary over about ``wavelength_mm``.

    A sum of plane waves of random direction and phase (random Fourier features, Rahimi & Recht 2007). It
    is a function of the place in the world, so that it does not change with the grid; and since a plane
    wave is a product over the axes of any grid, the sum is one product of matrices.
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
