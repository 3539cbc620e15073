"""Attention maps laid over their image: a row for each gate, a column for each plane."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from medseg.errors import GeometryError
from medseg.files import written_whole
from medseg.io.nifti.writer import write_nifti
from medseg.pictures.display import PLANES, displayed, window
from medseg.volume import Volume

INCHES = 2.6


def write_attention(image: Volume, maps: Volume, folder: Path) -> None:
    """Writes image.nii.gz, gate_1.nii.gz and so on, and attention.png, which shows all gates over the image.

    Args:
        image: ``(channel, x, y, z)``, as the network sees it.
        maps: ``(gate, x, y, z)``, from 0 to 1, on the same grid.
        folder: Where they are written.
    """
    write_nifti(folder / "image.nii.gz", image.array, image.geometry)
    for number, gate in enumerate(maps.array, start=1):
        write_nifti(folder / f"gate_{number}.nii.gz", gate, maps.geometry)
    plot_attention(image, maps, folder / "attention.png")


def plot_attention(image: Volume, maps: Volume, output: Path) -> Path:
    """Draws attention maps over their image, in the slices in which the gate that chooses most lets most through.

    Args:
        image: ``(channel, x, y, z)``, of which the first channel is shown.
        maps: ``(gate, x, y, z)`` on the same grid, from 0 (blue) to 1 (red).
        output: The picture to write.

    Returns:
        The picture.

    Raises:
        GeometryError: The shapes differ.
        OutputError: The picture cannot be written.
    """
    if image.geometry.shape != maps.geometry.shape:
        raise GeometryError(f"maps of {maps.geometry.shape} cannot lie on an image of {image.geometry.shape}")
    shown, black, white = window(displayed(image).array)
    turned = displayed(maps)
    gates, shape, spacing = turned.array, turned.geometry.shape, turned.geometry.spacing
    choosing = gates[np.argmax(gates.std(axis=(1, 2, 3)))]
    planes = [plane for plane in PLANES if shape[plane.column] > 1 and shape[plane.row] > 1]
    size = (INCHES * len(planes) + 1, INCHES * len(gates) + 0.4)
    figure = Figure(figsize=size, facecolor="black", layout="constrained")
    panels = figure.subplots(len(gates), len(planes), squeeze=False)
    for row, gate in enumerate(gates):
        for axes, plane in zip(panels[row], planes, strict=True):
            others = tuple(axis for axis in range(3) if axis != plane.across)
            at = int(np.argmax(choosing.sum(axis=others)))
            axes.imshow(shown[0].take(at, plane.across).T, cmap="gray", vmin=black, vmax=white)
            heat = axes.imshow(gate.take(at, plane.across).T, cmap="jet", vmin=0, vmax=1, alpha=0.4)
            axes.set_aspect(spacing[plane.row] / spacing[plane.column])
            axes.set_axis_off()
        panels[row][0].set_title(f"gate {row + 1} of {len(gates)}", color="white", fontsize=9, loc="left")
    bar = figure.colorbar(heat, ax=panels, shrink=0.6)
    bar.ax.tick_params(colors="white")
    with written_whole(output) as temporary:
        figure.savefig(temporary, dpi=110, facecolor=figure.get_facecolor())
    return output
