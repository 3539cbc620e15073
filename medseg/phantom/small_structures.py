"""Synthetic scans of what is easily lost: lesions of all sizes in a brain, and the branches of a vessel.

Every seed is another scan. The labels are exact. Bright spots and bands that are no lesion and no vessel are among
them, so that brightness alone does not tell.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from medseg.files import write_json
from medseg.io.nifti.writer import write_nifti
from medseg.phantom.canvas import smooth_field
from medseg.phantom.solid import Solid, ellipsoid, tube
from medseg.volume import Array, Geometry, Shape3, Spacing3

Drawing = Callable[..., tuple[Array, Array]]

NOISE = 0.12  # its deviation, where a lesion is 0.35 to 1 brighter than what is around it
NOISE_BLUR_VOXELS = 0.5
SMALLEST_MM3, LARGEST_MM3 = 4.0, 6000.0  # of lesions: as many between 4 and 40 as between 400 and 4,000
STEP_MM = 3.0  # of a vessel
THINNEST_MM, THICKEST_MM = 0.7, 2.6  # radii of vessels


class Sketch:
    """A scan while it is drawn, on a grid that is twice as fine along each axis.

    Args:
        seed: Of all that is random in it.
        shape: Voxels of the scan ``(x, y, z)``.
        spacing: Their edges in mm.
    """

    def __init__(self, seed: int, shape: Shape3, spacing: Spacing3) -> None:
        self.rng = np.random.default_rng(seed)
        self.size_mm = np.asarray(shape) * np.asarray(spacing)
        self.fine = np.asarray(spacing) / 2
        fine = Geometry((2 * shape[0], 2 * shape[1], 2 * shape[2]), np.diag([*self.fine, 1.0]))
        uneven = 0.12 * smooth_field(self.rng, fine, 40.0) + 0.08 * smooth_field(self.rng, fine, 9.0)
        self.image = np.asarray(1 + uneven, np.float32)
        self.label_map = np.zeros(fine.shape, np.uint8)

    def place(self, margin_mm: float) -> Array:
        """Returns a random point, so many mm inside of the scan."""
        return np.asarray(self.rng.uniform(margin_mm, self.size_mm - margin_mm))

    def draw(self, solid: Solid, brightness: float, *, edge_mm: float = 0.0, labelled: bool = True) -> None:
        """Makes a solid brighter than what is there.

        Args:
            solid: What is drawn.
            brightness: How much brighter it is.
            edge_mm: Over how much its edge is faded, from its surface inwards.
            labelled: Whether it is a part of the structure.
        """
        low = np.clip(np.floor(solid.low / self.fine), 0, self.image.shape).astype(int)
        high = np.clip(np.ceil(solid.high / self.fine) + 1, 0, self.image.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = [(np.arange(a, b) + 0.5) * step for a, b, step in zip(low, high, self.fine, strict=True)]
        depth = solid.depth(np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32))
        share = np.clip(depth / edge_mm, 0, 1) if edge_mm else depth > 0
        bright = 1 + brightness * share
        self.image[box] = np.where(share > 0, np.maximum(self.image[box], bright), self.image[box])
        if labelled:
            self.label_map[box] |= (depth > 0).astype(np.uint8)

    def scanned(self) -> tuple[Array, Array]:
        """Returns the scan with its noise, float32 ``(x, y, z)``, and the label map, uint8: a voxel is labelled where
        at least half of it is."""
        image, share = _averaged(self.image), _averaged(self.label_map.astype(np.float32))
        noise = gaussian_filter(self.rng.standard_normal(image.shape, dtype=np.float32), NOISE_BLUR_VOXELS)
        return image + noise * np.float32(NOISE / noise.std()), (share >= 0.5).astype(np.uint8)


def lesions(seed: int, *, shape: Shape3 = (64, 64, 48), spacing: Spacing3 = (1.0, 1.0, 1.0)) -> tuple[Array, Array]:
    """Returns a scan with lesions of all sizes, and their label map.

    There are 6 to 24, of 4 to 6,000 mm³, as many between 4 and 40 mm³ as between 400 and 4,000. Small ones are fainter.
    Nearly all of the voxels belong to the few large ones.

    Args:
        seed: The number of the scan.
        shape: Voxels ``(x, y, z)``.
        spacing: Their edges in mm.

    Returns:
        The scan ``(x, y, z)``, float32, and its label map, uint8: 1 in lesions.

    Examples:
        >>> image, label_map = lesions(0, shape=(32, 32, 24))
        >>> image.shape, int(label_map.max())
        ((32, 32, 24), 1)
    """
    sketch = Sketch(seed, shape, spacing)
    _draw_lesions(sketch)
    return sketch.scanned()


def _draw_lesions(sketch: Sketch) -> None:
    rng = sketch.rng
    for _ in range(int(rng.integers(10, 20))):  # bright, with faded edges: no lesions
        radii = rng.uniform(2.0, 5.0, 3)
        spot = ellipsoid(sketch.place(2.0), radii, rng.uniform(0, 180, 3))
        sketch.draw(spot, rng.uniform(0.3, 0.8), edge_mm=float(radii.min()), labelled=False)
    for volume in np.exp(rng.uniform(np.log(SMALLEST_MM3), np.log(LARGEST_MM3), int(rng.integers(6, 25)))):
        radius = (3 * volume / (4 * np.pi)) ** (1 / 3)
        radii = radius * np.exp(rng.normal(0, 0.2, 3))
        brightness = rng.uniform(0.35, 0.55) + 0.45 * min(1.0, volume / 1000)
        sketch.draw(ellipsoid(sketch.place(3.0), radii, rng.uniform(0, 180, 3)), float(brightness))


def vessels(seed: int, *, shape: Shape3 = (64, 64, 48), spacing: Spacing3 = (1.0, 1.0, 1.0)) -> tuple[Array, Array]:
    """Returns a scan with vessels that branch and become thinner, and their label map.

    Radii are 2.6 mm where a vessel enters and 0.7 mm where it ends. The brightness of a vessel falls to a third in
    places. Bands with faded edges are no vessels.

    Args:
        seed: The number of the scan.
        shape: Voxels ``(x, y, z)``.
        spacing: Their edges in mm.

    Returns:
        The scan ``(x, y, z)``, float32, and its label map, uint8: 1 in vessels.

    Examples:
        >>> image, label_map = vessels(0, shape=(32, 32, 24))
        >>> image.shape, int(label_map.max())
        ((32, 32, 24), 1)
    """
    sketch = Sketch(seed, shape, spacing)
    _draw_vessels(sketch)
    return sketch.scanned()


def _draw_vessels(sketch: Sketch) -> None:
    rng = sketch.rng
    for _ in range(8):
        start = sketch.place(2.0)
        path = [start, start + rng.normal(0, 12, 3)]
        radius = rng.uniform(1.5, 3.0)
        sketch.draw(tube(path, float(radius)), rng.uniform(0.3, 0.7), edge_mm=float(radius), labelled=False)
    for _ in range(2):
        start = sketch.place(4.0)
        start[rng.integers(3)] = 0.0
        inwards = sketch.size_mm / 2 - start
        _grow(sketch, start, inwards / np.linalg.norm(inwards), THICKEST_MM)


def _grow(sketch: Sketch, point: Array, direction: Array, radius: float) -> None:
    """Draws a vessel step by step until it is too thin or leaves the scan; each of its branches begins thinner."""
    rng = sketch.rng
    waiting = [(point, direction, radius)]
    while waiting:
        point, direction, radius = waiting.pop()
        fading = rng.uniform(0, 2 * np.pi)
        for step in range(200):
            end = point + STEP_MM * direction
            brightness = 0.5 + 0.25 * np.sin(fading + 0.6 * step)
            sketch.draw(tube([point, end], radius), float(brightness))
            if radius < THINNEST_MM or (end < 0).any() or (end > sketch.size_mm).any():
                break
            point, direction, radius = end, _turned(rng, direction, 0.25), radius * 0.975
            if rng.uniform() < 0.16 and radius * 0.75 > THINNEST_MM:
                waiting.append((point, _turned(rng, direction, 0.9), radius * 0.75))
                radius *= 0.9


def _turned(rng: np.random.Generator, direction: Array, amount: float) -> Array:
    turned = direction + rng.normal(0, amount, 3)
    return np.asarray(turned / np.linalg.norm(turned))


def _averaged(fine: Array) -> Array:
    x, y, z = (n // 2 for n in fine.shape)
    return np.asarray(fine.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5)))


def make_cases(folder: Path, draw: Drawing, structure: str, *, n: int, seed: int = 0) -> Path:
    """Writes drawn scans as a dataset in nnU-Net's layout: NIfTI, and dataset.json.

    Args:
        folder: Where to.
        draw: ``lesions`` or ``vessels``.
        structure: The name of the label.
        n: How many cases.
        seed: Of the first one.

    Returns:
        The folder.

    Raises:
        OutputError: A file cannot be written.
    """
    for number in range(n):
        image, label_map = draw(seed + number)
        grid = Geometry(label_map.shape, np.eye(4))
        write_nifti(folder / "imagesTr" / f"{structure}_{number:03d}_0000.nii.gz", image, grid)
        write_nifti(folder / "labelsTr" / f"{structure}_{number:03d}.nii.gz", label_map, grid)
    labels = {"background": 0, structure: 1}
    content = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": n, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", content)
    return folder
