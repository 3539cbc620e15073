"""A synthetic abdomen in CT: organs of known shape among everything that makes them hard to find.

Every seed is another patient: build, position and shape of organs, dose of contrast medium, bowel, noise.
The labels are exact, which no real scan offers; how well a network does here says nothing about how well
it does on patients.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from medseg.phantom.canvas import Canvas, smooth_field
from medseg.phantom.organs import paint_abdomen
from medseg.phantom.patient import PhantomPatient
from medseg.phantom.tissue import APPEARANCES, LABELS, STRUCTURES, Tissue
from medseg.volume import Array, Geometry, Shape3, Spacing3

__all__ = ["LABELS", "SUPINE_AXIAL", "abdomen"]

# Directions (columns, RAS) of the array axes of an axial CT of a patient on his back: left, posterior,
# superior.
SUPINE_AXIAL = np.diag([-1.0, -1.0, 1.0])

TEXTURE_WAVELENGTH_MM = 16.0
NOISE_BLUR_VOXELS = (0.7, 0.7, 0.3)


def abdomen(
    seed: int,
    *,
    shape: Shape3 = (96, 80, 32),
    spacing: Spacing3 = (4.0, 4.0, 6.0),
    directions: Array = SUPINE_AXIAL,
) -> tuple[Array, Array]:
    """Returns a CT of a patient, and the label map of it.

    A seed is the same patient on any grid; only the scanner noise differs. The patient lies near the middle of the
    grid. Everything is painted twice as fine along each axis and averaged (partial volume); a voxel's label is the
    commonest in it.

    Args:
        seed: The number of the patient.
        shape: Voxels ``(x, y, z)``.
        spacing: Edge lengths of a voxel in mm, in array-axis order.
        directions: ``(3, 3)``, whose columns say where the array axes point, as RAS unit vectors. By default the study
            is axial: its first axis runs to the patient's left and its second to his back.

    Returns:
        HU ``(x, y, z)`` as float32, and the label map ``(x, y, z)`` as uint8 with the values of ``LABELS``.
    """
    patient = PhantomPatient(seed)
    fine = tuple(2 * n for n in shape)
    affine = np.eye(4)
    affine[:3, :3] = patient.pose @ directions * np.asarray(spacing) / 2
    affine[:3, 3] = patient.shift - affine[:3, :3] @ ((np.asarray(fine) - 1) / 2)
    canvas = Canvas.blank(Geometry((fine[0], fine[1], fine[2]), affine), patient.rng)
    paint_abdomen(canvas, patient)
    return _scanned(canvas, patient), _label_map(canvas.tissue)


def _scanned(canvas: Canvas, patient: PhantomPatient) -> Array:
    """Returns the HU of the tissues, with their texture, blurred to the scanner's voxels, with its noise."""
    rng = patient.rng
    mean, texture = np.zeros((2, len(Tissue)), np.float32)
    for tissue, look in APPEARANCES.items():
        mean[tissue] = look.plain + patient.dose * look.enhancement * rng.normal(1, 0.08) + rng.normal(0, look.spread)
        texture[tissue] = look.texture
    unevenness = smooth_field(rng, canvas.grid, TEXTURE_WAVELENGTH_MM, n_waves=64)
    image = _block_sum(mean[canvas.tissue] + texture[canvas.tissue] * unevenness) / 8
    noise = gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), NOISE_BLUR_VOXELS)
    return np.asarray(image + noise * np.float32(patient.noise_hu / noise.std()))


def _label_map(tissue: Array) -> Array:
    """Returns the commonest label in each block of 2×2×2; a tie goes to the lower value."""
    value = np.zeros(len(Tissue), np.uint8)
    for member, structure in STRUCTURES.items():
        value[member] = LABELS[structure]
    fine = value[tissue]
    shares = np.stack([_block_sum((fine == label).view(np.uint8)) for label in (0, *LABELS.values())])
    return np.asarray(shares.argmax(axis=0).astype(np.uint8))


def _block_sum(fine: Array) -> Array:
    """Returns the sums over blocks of 2×2×2."""
    for axis in range(3):
        fine = np.moveaxis(fine, axis, 0)
        fine = np.moveaxis(fine[::2] + fine[1::2], 0, axis)
    return fine
